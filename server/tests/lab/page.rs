//! The first page in a real browser.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use serde_json::json;

use crate::browser::Browser;
use crate::conversation::{self, Carrier, Conversation};
use crate::daemon::{SERVER_URL, TOKEN};
use crate::lab::Lab;
use crate::namespaces::{LAN_V4, Place, WAN_V4};
use crate::outside::Site;
use crate::wait;

/// For anything to show on the page, on a busy machine.
const LIMIT: Duration = Duration::from_secs(20);
/// The width without scrolling sideways that WCAG 2.1 asks for (1.4.10), in CSS pixels; today's phones have 360 and more.
const NARROW: u32 = 320;
/// Bytes of one round, downwards. Large enough to change the two figures that the page prints.
const ROUND: u32 = 2_000_000;

/// Issue: shown when, 8.
pub(crate) fn follows_a_connection(site: &Site) -> anyhow::Result<()> {
    let lab = Lab::start(site)?;
    let mut browser = Browser::start(&site.directory)?;
    log_in(&mut browser)?;
    // Lost with the document, if the page is ever loaded again.
    browser.evaluate("window.stillTheSamePage = true")?;

    let service = conversation::serve_tcp(Place::Wan, SocketAddr::new(WAN_V4[0], 0))?;
    ensure!(down(&mut browser, service)?.is_none(), "there is a row before there is a connection");
    let from = SocketAddr::new(LAN_V4[0], 0);
    let mut conversation = Place::Lan.within(|| Conversation::open(Carrier::Tcp, from, service))?;
    let mut shown = vec![more_than(&mut browser, service, -1.0)?];
    for _ in 0..3 {
        conversation.round(100, ROUND)?;
        let last = shown.last().copied().unwrap_or_default();
        shown.push(more_than(&mut browser, service, last)?);
    }
    let same = browser.evaluate("window.stillTheSamePage === true")?;
    ensure!(same == json!(true), "the page was loaded again");
    println!("bytes down, as the page showed them without a reload: {shown:?}");

    browser.set_scripts(false)?;
    browser.navigate(SERVER_URL)?;
    let row = format!(">{}</td>\n<td>{}</td>", service.ip(), service.port());
    let html = wait::until("the table is there without JavaScript", LIMIT, || {
        Ok(Some(browser.html()?).filter(|html| html.contains(&row)))
    })?;
    ensure!(html.contains("<table id=\"live\""), "a row without its table: {html}");
    println!("without JavaScript: {} rows", html.matches("<tr data-id").count());
    drop((conversation, lab));
    Ok(())
}

/// A live page whose login has ended asks for the next one, without anybody's help.
pub(crate) fn asks_for_a_login_when_its_own_ends(site: &Site) -> anyhow::Result<()> {
    let mut lab = Lab::start(site)?;
    let mut browser = Browser::start(&site.directory)?;
    log_in(&mut browser)?;
    lab.kill_server()?;
    lab.start_server_with("another-token")?;
    wait::until("the login form is there again", LIMIT, || {
        let there = browser.evaluate("document.querySelector('form #token') !== null")?;
        Ok((there == json!(true)).then_some(()))
    })
}

/// Nothing of any page is wider than a small phone, not even a part that could be scrolled by itself.
pub(crate) fn fits_a_narrow_screen(site: &Site) -> anyhow::Result<()> {
    let lab = Lab::start(site)?;
    let mut browser = Browser::start(&site.directory)?;
    browser.set_width(NARROW)?;
    log_in(&mut browser)?;
    let service = conversation::serve_tcp(Place::Wan, SocketAddr::new(WAN_V4[0], 0))?;
    let from = SocketAddr::new(LAN_V4[0], 0);
    let mut conversation = Place::Lan.within(|| Conversation::open(Carrier::Tcp, from, service))?;
    conversation.round(100, ROUND)?;
    more_than(&mut browser, service, 0.0)?;

    let host = format!("/hosts/{}", service.ip());
    for path in [
        "/",
        "/flows",
        "/dns",
        "/drops",
        "/top",
        "/devices",
        "/devices/1",
        "/hosts",
        &host,
        "/domains",
        "/routers",
        "/gaps",
    ] {
        browser.navigate(&format!("{SERVER_URL}{path}"))?;
        wait::until("the page is there", LIMIT, || {
            let ready = format!("document.readyState === 'complete' && location.pathname === '{path}'");
            Ok((browser.evaluate(&ready)? == json!(true)).then_some(()))
        })?;
        let heading = browser.evaluate("document.querySelector('h1').textContent")?;
        ensure!(heading != json!("Not found"), "{path} is not there");
        let wide = browser.evaluate(&format!(
            "[...document.querySelectorAll('body *')]
                .filter((element) => element.getBoundingClientRect().right > {NARROW}.5)
                .map((element) => element.outerHTML.slice(0, 80))"
        ))?;
        ensure!(wide == json!([]), "{path} ({heading}): {wide}");
    }
    drop((conversation, lab));
    Ok(())
}

/// Through the form, as a person does.
fn log_in(browser: &mut Browser) -> anyhow::Result<()> {
    browser.navigate(SERVER_URL)?;
    wait::until("the login form is there", LIMIT, || {
        Ok((browser.evaluate("document.querySelector('form #token') !== null")? == json!(true)).then_some(()))
    })?;
    browser.evaluate(&format!("document.querySelector('#token').value = '{TOKEN}'"))?;
    browser.evaluate("document.querySelector('form').submit()")?;
    wait::until("the live page is there", LIMIT, || {
        let ready = "document.readyState === 'complete' && document.querySelector('#live') !== null";
        Ok((browser.evaluate(ready)? == json!(true)).then_some(()))
    })
}

/// Waits until the page shows more bytes for this service than these.
fn more_than(browser: &mut Browser, service: SocketAddr, bytes: f64) -> anyhow::Result<f64> {
    wait::until("the page shows more", LIMIT, || Ok(down(browser, service)?.filter(|&shown| shown > bytes)))
        .with_context(|| format!("{service} stays at {bytes}"))
}

/// The bytes down in the row of this service, if there is one.
fn down(browser: &mut Browser, service: SocketAddr) -> anyhow::Result<Option<f64>> {
    let text = browser.evaluate(&format!(
        "(() => {{
            const heads = [...document.querySelectorAll('#live thead th')].map((head) => head.textContent);
            const at = (row, name) => row.cells[heads.indexOf(name)].textContent;
            const row = [...document.querySelectorAll('#live tbody tr')]
                .find((row) => at(row, 'Destination') === '{}' && at(row, 'Port').split(' ')[0] === '{}');
            return row ? at(row, 'Down') : null;
        }})()",
        service.ip(),
        service.port(),
    ))?;
    text.as_str().map(bytes).transpose()
}

/// A figure and a decimal unit, as the page writes them.
fn bytes(text: &str) -> anyhow::Result<f64> {
    let (figure, unit) = text.split_once(' ').with_context(|| format!("no unit in {text:?}"))?;
    let factor = match unit {
        "B" => 1.0,
        "kB" => 1e3,
        "MB" => 1e6,
        other => anyhow::bail!("no unit for a few megabytes: {other}"),
    };
    Ok(figure.parse::<f64>()? * factor)
}
