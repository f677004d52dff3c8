const hits = [...document.querySelectorAll(".hit")];
const playerOf = (hit) => hit?.querySelector("video, audio");
let at = -1;

function go(place) {
  at = Math.max(0, Math.min(hits.length - 1, place));
  hits[at]?.scrollIntoView({ block: "nearest" });
  hits[at]?.focus({ preventScroll: true });
}

function play(hit) {
  // One that is paused before it begins says so.
  playerOf(hit)?.play().catch(() => {});
  silence(playerOf(hit));
}

// One plays at a time.
function silence(player) {
  for (const hit of hits) if (playerOf(hit) !== player) playerOf(hit)?.pause();
}

const keys = {
  j: () => go(at + 1),
  k: () => go(at - 1),
  p: () => (playerOf(hits[at])?.paused ? play(hits[at]) : playerOf(hits[at])?.pause()),
};

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  keys[event.key]?.();
  const place = Number(event.key) - 1;
  if (/^[1-9]$/.test(event.key) && place < hits.length) {
    go(place);
    play(hits[place]);
  }
});

document.addEventListener("click", (event) => {
  const place = hits.findIndex((hit) => `#${hit.id}` === event.target.closest("a")?.getAttribute("href"));
  if (place >= 0) {
    go(place);
    play(hits[place]);
  }
});

// Where somebody clicks or tabs to, the keys go on from.
document.addEventListener("focusin", (event) => {
  const place = hits.indexOf(event.target.closest(".hit"));
  if (place >= 0) at = place;
});

// By a player's own buttons, too. The event is late: another may have been asked for meanwhile.
document.addEventListener("play", (event) => {
  if (!event.target.paused) silence(event.target);
}, true);
