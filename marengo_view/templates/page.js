const hits = [...document.querySelectorAll(".hit")];
const playerOf = (hit) => hit?.querySelector("video, audio");
let current = -1;

function goTo(index) {
  current = Math.max(0, Math.min(hits.length - 1, index));
  hits[current]?.scrollIntoView({ block: "nearest" });
  hits[current]?.focus({ preventScroll: true });
}

function play(hit) {
  // play() rejects if the player is paused before it starts.
  playerOf(hit)?.play().catch(() => {});
  pauseOthers(playerOf(hit));
}

// Only one player plays at a time.
function pauseOthers(player) {
  for (const hit of hits) if (playerOf(hit) !== player) playerOf(hit)?.pause();
}

const keys = {
  j: () => goTo(current + 1),
  k: () => goTo(current - 1),
  p: () => (playerOf(hits[current])?.paused ? play(hits[current]) : playerOf(hits[current])?.pause()),
};

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  keys[event.key]?.();
  const index = Number(event.key) - 1;
  if (/^[1-9]$/.test(event.key) && index < hits.length) {
    goTo(index);
    play(hits[index]);
  }
});

document.addEventListener("click", (event) => {
  const index = hits.findIndex((hit) => `#${hit.id}` === event.target.closest("a")?.getAttribute("href"));
  if (index >= 0) {
    goTo(index);
    play(hits[index]);
  }
});

// j and k continue from the result that was clicked or tabbed to.
document.addEventListener("focusin", (event) => {
  const index = hits.indexOf(event.target.closest(".hit"));
  if (index >= 0) current = index;
});

// Also when started with the player's own controls. The event arrives late: the player may be paused again by then.
document.addEventListener("play", (event) => {
  if (!event.target.paused) pauseOthers(event.target);
}, true);
