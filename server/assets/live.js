"use strict";
// Keeps the live table up to date from server-sent events. Every value is set as text, never as HTML.
(() => {
  const body = document.querySelector("#live tbody");
  const link = document.getElementById("link");
  const rows = new Map();
  for (const row of body.rows) rows.set(Number(row.dataset.id), row);

  const CELLS = [
    ["device", "address"], ["direction"], ["destination", "address"], ["port"], ["protocol"], ["state"],
    ["up_rate", "num"], ["down_rate", "num"], ["up", "num"], ["down", "num"], ["age", "num"], ["router"],
  ];

  function newRow(id) {
    const row = document.createElement("tr");
    row.dataset.id = id;
    for (const [name, kind] of CELLS) {
      const cell = row.insertCell();
      if (kind) cell.className = kind;
      if (name === "age") cell.append(document.createElement("time"));
    }
    return row;
  }

  function fill(row, flow) {
    row.classList.toggle("ended", flow.ended);
    CELLS.forEach(([name], index) => {
      const cell = row.cells[index];
      if (name === "age") {
        cell.firstElementChild.dateTime = flow.first_seen;
      } else if (cell.textContent !== flow[name]) {
        cell.textContent = flow[name];
      }
      if (name === "state") cell.title = flow.flags;
    });
  }

  function arrange(order) {
    const wanted = new Set(order);
    for (const [id, row] of rows) {
      if (wanted.has(id)) continue;
      row.remove();
      rows.delete(id);
    }
    let next = body.firstElementChild;
    for (const id of order) {
      const row = rows.get(id);
      if (!row) continue;
      if (row === next) next = next.nextElementSibling;
      else body.insertBefore(row, next);
    }
  }

  function age(seconds) {
    if (seconds < 60) return `${seconds} s`;
    if (seconds < 3600) return `${Math.floor(seconds / 60)} min`;
    if (seconds < 86400) return `${Math.floor(seconds / 3600)} h ${Math.floor((seconds % 3600) / 60)} min`;
    return `${Math.floor(seconds / 86400)} d ${Math.floor((seconds % 86400) / 3600)} h`;
  }

  function tick() {
    const now = Date.now();
    for (const row of rows.values()) {
      if (row.classList.contains("ended")) continue;
      const time = row.querySelector("time");
      const began = new Date(time.dateTime);
      const text = age(Math.max(0, Math.floor((now - began.getTime()) / 1000)));
      if (time.textContent !== text) time.textContent = text;
      if (!time.title) time.title = `began ${began.toLocaleString()}`;
    }
  }

  function apply(update) {
    for (const flow of update.rows) {
      let row = rows.get(flow.id);
      if (!row) {
        row = newRow(flow.id);
        rows.set(flow.id, row);
      }
      fill(row, flow);
    }
    if (update.order) arrange(update.order);
    document.getElementById("open").textContent = update.open;
    document.getElementById("matching").textContent = update.matching;
    document.getElementById("none").hidden = rows.size > 0;
    const failing = document.getElementById("failing");
    failing.hidden = !update.failing;
    failing.querySelector("span").textContent = update.failing || "";
    tick();
  }

  // Begins anew where the page is to be had, or a login is asked for.
  function again() {
    const later = () => setTimeout(again, 5000);
    fetch(location.href).then((answer) => {
      if (answer.ok || answer.status === 401) location.reload();
      else later();
    }, later);
  }

  const source = new EventSource(`/live/events${location.search}`);
  source.addEventListener("flows", (event) => apply(JSON.parse(event.data)));
  source.addEventListener("open", () => { link.textContent = ""; });
  source.addEventListener("error", () => {
    link.textContent = "· the server does not answer, trying again";
    // Whatever is answered but 200 ends it for good.
    if (source.readyState === EventSource.CLOSED) setTimeout(again, 5000);
  });
  setInterval(tick, 1000);
  tick();
})();
