// Sending a file, and the files so far.

import { makeAgain } from "./again.js";
import { api, newKey, page, request } from "./api.js";
import { byId, el, notice, put, say } from "./dom.js";
import { bytes, progressPercent, timeLeft } from "./format.js";
import { isOver, jobsTable, setBar } from "./jobs.js";
import { poll } from "./poll.js";
import { makePreview } from "./preview.js";
import { isUnderWay, problemNotice } from "./problems.js";
import { upload } from "./upload.js";
import { t } from "./words.js";

const RECENT = 20;
const LIST_EVERY_MS = 4000;
const MOST_ALONE = 3; // What breaks on its way so often in a row, gigabytes perhaps, is sent again by hand alone.

const form = byId("form");
const input = byId("file");
const drop = byId("drop");

let chosen = null; // The file as the browser holds it.
let key = null; // Names this sending of this file: sent again after a lost answer, it is still one job.
let sending = null;
let broken = 0; // So often it broke when something of it had been sent.
let isAllSent = false; // Whether all of it was sent under this key: then the server may take it, answered or not.
let listing = null;
// A file that met no server is sent as soon as there is one; its key keeps one that had arrived from a second job.
const again = makeAgain(byId("notice"));

const preview = makePreview(chooseOther);

function choose(files) {
  if (sending || files.length === 0) {
    return;
  }
  again.stop();
  byId("notice").replaceChildren(...(files.length > 1 ? [notice("info", t("files.one_at_a_time"))] : []));
  const [file] = files;
  const most = Number(form.dataset.maxBytes ?? Infinity);
  if (file.size > most) {
    forget(); // Which empties `files`: they are those of the field.
    const words = t("files.too_large", { name: file.name, size: bytes(file.size), most: bytes(most) });
    byId("notice").replaceChildren(notice("danger", t("error.413"), [words]));
    return;
  }
  chosen = file;
  newSending();
  byId("chosen-name").textContent = chosen.name;
  byId("chosen-size").textContent = bytes(chosen.size);
  show("chosen");
  byId("send").focus();
  preview.show(chosen);
}

function newSending() {
  key = newKey();
  broken = 0;
  isAllSent = false;
}

function forget() {
  again.stop();
  preview.hide();
  chosen = null;
  input.value = "";
  byId("name").value = "";
  byId("notice").replaceChildren();
  show("drop");
  input.focus();
}

function chooseOther() {
  forget();
  input.click();
}

function show(part) {
  for (const id of ["drop", "chosen", "sending"]) {
    byId(id).hidden = id !== part;
  }
}

async function send() {
  again.stop();
  preview.hide();
  byId("notice").replaceChildren();
  show("sending");
  byId("cancel").focus();
  const began = performance.now();
  let sent = 0;
  showProgress({ sent: 0, total: chosen.size, began });
  say(byId("status"), t("files.sending_started", { name: chosen.name }));
  const mine = upload(chosen, {
    name: byId("name").value.trim(),
    options: preview.options(),
    key,
    onProgress: (progress) => {
      sent = progress.sent;
      isAllSent ||= progress.total > 0 && progress.sent >= progress.total;
      showProgress({ ...progress, began });
    },
  });
  sending = mine;
  try {
    const job = await mine.done;
    window.location.assign(page(`/jobs/${encodeURIComponent(job.id)}`));
  } catch (error) {
    if (sending !== mine) {
      return; // The page has begun anew.
    }
    sending = null;
    show("chosen");
    say(byId("status"), "");
    if (error.name === "AbortError") {
      afterStop();
      preview.resume();
    } else {
      if (error.status !== undefined && !isUnderWay(error)) {
        newSending();
      }
      broken += sent > 0 ? 1 : 0;
      again.show(error, send, { press: sendByHand, gaveUp: broken > MOST_ALONE ? t("files.gave_up") : null });
    }
    byId("send").focus();
  }
}

function sendByHand() {
  broken = 0;
  send();
}

/** A file that was sent whole may be taken all the same; it keeps its key, so that sent once more it is still one job. */
function afterStop() {
  byId("notice").replaceChildren(notice("info", t(isAllSent ? "files.cancelled_late" : "files.cancelled")));
  if (isAllSent) {
    followList();
  } else {
    newSending();
  }
}

function showProgress({ sent, total, began }) {
  const share = total > 0 ? sent / total : 0;
  setBar(byId("upload-bar"), sent, total);
  byId("upload-bar").classList.toggle("reading", share >= 1);
  if (share >= 1) {
    byId("sending-words").textContent = t("files.reading", { name: chosen.name });
    say(byId("status"), t("files.reading", { name: chosen.name }));
    return;
  }
  const seconds = (performance.now() - began) / 1000;
  const left = sent > 0 && seconds > 2 ? timeLeft((seconds * (total - sent)) / sent) : null;
  const words = t("files.sending", { share: progressPercent(sent, total), sent: bytes(sent), total: bytes(total) });
  byId("sending-words").textContent = left ? `${words}, ${left}` : words;
}

/** The list follows the jobs while any of them is under way, or may yet come. */
function followList() {
  listing?.stop();
  listing = poll(() => request(api(`/jobs?limit=${RECENT}`)), {
    first: LIST_EVERY_MS,
    onAnswer: ({ items, next }) => {
      byId("list-notice").replaceChildren();
      showList(items, Boolean(next));
      return isAllSent || items.some((job) => !isOver(job));
    },
    onError: (error, { hopeless }) => put(byId("list-notice"), problemNotice(error, [], hopeless ? [] : [t("error.again")])),
  });
}

function showList(items, more) {
  const list = byId("list");
  const text = JSON.stringify(items);
  if (list.dataset.shown === text) {
    return;
  }
  list.dataset.shown = text;
  // A link that has the focus keeps it, although the table is made anew.
  const focused = document.activeElement?.closest("#list tr")?.dataset.job;
  list.replaceChildren(
    items.length > 0 ? jobsTable(items) : el("p", { class: "nothing" }, t("jobs.nothing")),
    ...(more ? [el("p", {}, el("a", { href: page("/history?show=files") }, t("jobs.all")))] : []),
  );
  if (focused) {
    [...list.querySelectorAll("tr")].find((row) => row.dataset.job === focused)?.querySelector("a").focus();
  }
}

form.addEventListener("submit", (event) => {
  event.preventDefault();
  if (chosen && byId("sending").hidden) {
    sendByHand();
  }
});
input.addEventListener("change", () => choose(input.files));
byId("forget").addEventListener("click", forget);
byId("cancel").addEventListener("click", () => sending?.cancel());

// The way back may lead to the page as it was left: on its way to the job of a file that has been sent.
window.addEventListener("pageshow", ({ persisted }) => {
  if (persisted && sending) {
    sending.cancel();
    sending = null;
    forget();
    followList();
  }
});

let over = 0; // Entering a child is reported before leaving its parent, so the two are counted.
document.addEventListener("dragenter", (event) => {
  event.preventDefault();
  over += 1;
  drop.classList.add("over");
});
document.addEventListener("dragleave", () => {
  over = Math.max(0, over - 1);
  drop.classList.toggle("over", over > 0);
});
document.addEventListener("dragover", (event) => event.preventDefault());
document.addEventListener("drop", (event) => {
  event.preventDefault();
  over = 0;
  drop.classList.remove("over");
  choose(event.dataTransfer.files);
});

followList();
