//! The store's stories, told on SQLite and on a Postgres that this test starts itself.
//!
//! Without Postgres' programs its stories are ignored, and say so; with `NETMON_REQUIRE_POSTGRES=1` in the
//! environment they fail instead.

mod away;
mod baselines;
mod capture;
mod checks;
mod commands;
mod commits;
mod days;
mod devices;
mod events;
mod explain;
mod explain_postgres;
mod failures;
mod flows;
mod hosts;
mod imports;
mod limits;
mod million;
mod model;
mod orders;
mod plans;
#[path = "../support/postgres.rs"]
mod postgres;
mod proxy;
mod reads;
#[path = "../support/capture.rs"]
mod recording;
mod retention;
mod rivals;
mod rollups;
mod sample;
mod schema;
mod small_disk;
mod snapshots;
mod tops;

use std::process::ExitCode;
use std::sync::{Arc, OnceLock};

use libtest_mimic::{Arguments, Completion, Failed, Trial};
use netmon_server::domain::RouterId;
use netmon_server::store::{DatabaseUrl, FlowFilter, FlowRow, Page, Store, Writer};

use crate::postgres::Cluster;
use crate::sample::NOON;

/// A story is told on an empty database.
type Story = fn(&DatabaseUrl);

/// A story that stops the server or stands in front of it.
type OwnClusterStory = fn(Cluster);

/// Names a list of functions by their own names.
macro_rules! stories {
    ($($module:ident :: $story:ident),* $(,)?) => {
        &[$((concat!(stringify!($module), "::", stringify!($story)), $module::$story as Story)),*]
    };
}

const STORIES: &[(&str, Story)] = stories![
    baselines::what_is_usual_is_computed,
    baselines::findings_go_when_their_time_is_over,
    commands::migrate_makes_a_database_or_brings_it_up_to_date,
    commands::migrate_refuses_a_newer_database,
    commands::what_only_reads_changes_no_schema,
    commands::cleanup_takes_what_was_kept_long_enough,
    commands::dns_prune_takes_dns_alone,
    commands::check_and_recompute_say_what_they_found,
    commits::a_cursor_moves_only_from_where_it_is,
    commits::a_failed_commit_leaves_nothing,
    commits::a_commit_can_be_tried_again_after_a_failure,
    commits::rollups_add_up,
    commits::a_rollup_stops_at_the_largest_number,
    commits::totals_agree,
    commits::routers_keep_what_is_not_new,
    commits::devices_and_hosts_widen,
    commits::one_address_behind_two_routers_is_two_devices,
    commits::text_with_nul_does_not_stop_a_commit,
    devices::a_device_is_listed_once_by_its_best_name,
    devices::the_unexplained_share_is_told,
    events::a_drop_is_stored_with_its_ends,
    events::the_router_is_no_remote_host_of_its_drops,
    events::answers_are_stored_in_their_order,
    events::counts_of_questions_are_stored,
    events::a_minute_of_health_adds_up,
    events::an_address_moves_to_the_mac_that_holds_it,
    events::answers_stay_with_who_held_the_address,
    events::merging_can_be_undone,
    events::a_name_that_came_late_is_written,
    events::an_http_batch_is_stored_once_and_forgotten_after_a_day,
    flows::every_field_comes_back,
    flows::what_follows_from_other_columns_takes_no_room,
    flows::an_open_flow_progresses_and_ends,
    flows::a_flow_opens_and_ends_in_one_commit,
    flows::a_restart_finds_the_open_flows,
    flows::a_flow_takes_a_new_id_of_the_agent,
    flows::a_large_commit_is_whole,
    hosts::names_are_asked_for_in_turn,
    hosts::whois_is_kept,
    hosts::a_text_is_looked_for_in_all_that_is_known,
    model::streams_are_counted_to_the_byte,
    model::posts_are_counted_to_the_byte,
    orders::answers_are_sorted,
    orders::drops_are_sorted,
    orders::what_comes_in_moves_no_page,
    orders::a_device_of_two_keys_is_one_list,
    orders::answers_and_drops_are_filtered,
    reads::pages_join_without_holes,
    reads::filters_narrow,
    reads::an_address_is_found_at_either_end,
    reads::flows_are_sorted_within_a_window,
    reads::lists_show_gaps_devices_and_losses,
    reads::short_lists_are_filtered_and_sorted,
    reads::reading_goes_on_beside_an_open_write,
    reads::a_setting_is_set_once,
    checks::a_sound_database_has_no_findings,
    checks::what_is_wrong_is_found,
    retention::rows_go_when_their_time_is_over,
    retention::a_late_event_changes_no_sum,
    retention::what_moved_little_is_added_up,
    retention::no_minute_goes_before_it_is_in_its_hour,
    retention::sweeps_at_once_take_nothing_twice,
    rollups::a_minute_goes_into_its_hour_once,
    rollups::without_a_mark_nothing_waits,
    rollups::the_mark_moves_beside_commits,
    snapshots::flows_begin_move_on_and_end,
    snapshots::pings_add_up,
    snapshots::an_agents_flows_are_left_alone,
    tops::a_ranking_covers_its_span,
    tops::nobody_has_a_row,
    tops::what_is_gone_from_the_minutes_is_in_the_hours,
    tops::a_day_of_a_device_has_its_minutes,
    schema::two_writers_never_share_an_id,
    schema::a_newer_database_is_refused,
    schema::an_earlier_schema_keeps_its_rows,
    schema::servers_may_start_at_once,
    schema::opening_again_changes_nothing,
];

/// Stories about Postgres alone.
const POSTGRES_STORIES: &[(&str, Story)] = stories![
    capture::the_original_agents_day_counts_once,
    limits::a_reader_waits_no_longer_than_it_may,
    imports::it_tells_how_far_it_is,
    imports::keys_of_all_kinds_are_gone_through,
    imports::it_refuses_what_it_cannot_copy,
    checks::a_sqlite_database_is_imported,
    days::a_day_goes_at_once,
    days::a_day_waits_for_its_open_flows,
    days::there_is_a_part_for_every_row,
    days::a_cap_takes_whole_days,
    rivals::an_agent_comes_back_with_a_new_run,
    rivals::an_agent_comes_back_with_the_same_run,
    rivals::the_last_words_of_a_run_come_late,
    rivals::posts_may_go_to_any_server,
    snapshots::a_server_takes_new_ids_on_a_new_day,
    schema::both_databases_have_the_same_columns,
    failures::a_read_only_postgres_counts_as_full
];

/// Stories that stop the server, or stand between: each has its own.
const OWN_CLUSTER_STORIES: &[(&str, OwnClusterStory)] = &[
    ("plans::every_list_follows_an_index", plans::every_list_follows_an_index_on_postgres),
    ("away::two_servers_outlive_their_postgres", away::two_servers_outlive_their_postgres),
    ("failures::postgres_restarts_between_commits", failures::postgres_restarts_between_commits),
    (
        "failures::an_answer_lost_on_the_way_is_not_written_twice",
        failures::an_answer_lost_on_the_way_is_not_written_twice,
    ),
];

/// The server that most stories share, started by the first; gone when the last trial is.
type Shared = Arc<OnceLock<Result<Cluster, String>>>;

fn main() -> ExitCode {
    if let Some(directory) = std::env::var_os(small_disk::DIRECTORY) {
        small_disk::inside(directory.as_ref());
        return ExitCode::SUCCESS;
    }
    plans::record_statements();
    let mut trials = vec![
        Trial::test("sqlite::plans::every_list_follows_an_index", || {
            on_sqlite(plans::every_list_follows_an_index_on_sqlite)
        }),
        Trial::test("migrations::both_databases_have_the_same_list", || {
            plain(schema::both_databases_have_the_same_list)
        }),
        Trial::test("sqlite::failures::a_locked_database_is_busy", || {
            on_sqlite(failures::a_locked_database_is_busy)
        }),
        Trial::test("sqlite::failures::what_is_not_a_database_is_named", || {
            on_sqlite(failures::what_is_not_a_database_is_named)
        }),
        Trial::test("sqlite::retention::the_space_comes_back", || on_sqlite(retention::the_space_comes_back)),
        Trial::test("sqlite::retention::a_cap_takes_the_oldest_first", || {
            on_sqlite(retention::a_cap_takes_the_oldest_first)
        }),
        Trial::test("sqlite::checks::a_damaged_file_is_set_aside", || {
            on_sqlite(checks::a_damaged_file_is_set_aside)
        }),
        Trial::test("sqlite::checks::what_can_be_read_is_salvaged", || {
            on_sqlite(checks::what_can_be_read_is_salvaged)
        }),
        Trial::test("sqlite::checks::a_backup_is_one_state_beside_a_writer", || {
            on_sqlite(checks::a_backup_is_one_state_beside_a_writer)
        }),
        Trial::test("sqlite::commands::cleanup_leaves_a_server_its_turns", || {
            on_sqlite(commands::cleanup_leaves_a_server_its_turns)
        }),
        Trial::test("sqlite::commands::backup_and_salvage_say_what_they_wrote", || {
            on_sqlite(commands::backup_and_salvage_say_what_they_wrote)
        }),
        Trial::test("commands::a_wrong_call_is_one_line_and_exit_code_2", || {
            plain(commands::a_wrong_call_is_one_line_and_exit_code_2)
        }),
        Trial::ignorable_test("sqlite::small_disk::a_full_disk_heals", small_disk::a_full_disk_heals),
    ];
    for (name, story) in STORIES {
        trials.push(Trial::test(format!("sqlite::{name}"), || on_sqlite(*story)));
    }
    let shared = Shared::default();
    for (name, story) in STORIES.iter().chain(POSTGRES_STORIES) {
        let shared = Shared::clone(&shared);
        trials.push(Trial::ignorable_test(format!("postgres::{name}"), move || on_postgres(&shared, *story)));
    }
    for (name, story) in OWN_CLUSTER_STORIES {
        trials.push(Trial::ignorable_test(format!("postgres::{name}"), || match Cluster::start(false) {
            Ok(cluster) => {
                story(cluster);
                Ok(Completion::Completed)
            }
            Err(reason) => without_postgres(&reason),
        }));
    }
    libtest_mimic::run(&Arguments::from_args(), trials).exit_code()
}

fn plain(test: fn()) -> Result<(), Failed> {
    test();
    Ok(())
}

fn on_sqlite(story: Story) -> Result<(), Failed> {
    let directory = tempfile::tempdir()?;
    story(&DatabaseUrl::Sqlite(directory.path().join("netmon.db")));
    Ok(())
}

fn on_postgres(shared: &Shared, story: Story) -> Result<Completion, Failed> {
    match shared.get_or_init(|| Cluster::start(false)) {
        Ok(cluster) => {
            let database = cluster.new_database();
            story(&DatabaseUrl::Postgres(cluster.url(&database)));
            Ok(Completion::Completed)
        }
        Err(reason) => without_postgres(reason),
    }
}

fn without_postgres(reason: &str) -> Result<Completion, Failed> {
    if std::env::var_os("NETMON_REQUIRE_POSTGRES").is_some_and(|value| value == "1") {
        return Err(Failed::from(format!("Postgres is required here: {reason}")));
    }
    Ok(Completion::ignored_with(reason))
}

/// An opened database with its writer and one router.
fn opened(url: &DatabaseUrl) -> (Store, Writer, RouterId) {
    let store = Store::open(url).unwrap();
    let mut writer = store.writer().unwrap();
    let router = writer.attach_router("gw", NOON).unwrap().id;
    (store, writer, router)
}

/// All flows, the newest first.
fn all_flows(store: &Store) -> Vec<FlowRow> {
    store.reader().flows(&FlowFilter::default(), Page { before: None, limit: 100_000 }).unwrap().items
}
