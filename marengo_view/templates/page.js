const hits = [...document.querySelectorAll(".hit")];
const dialog = document.querySelector("dialog");
const playerOf = (hit) => hit?.querySelector("video, audio");
const clock = (sec) => new Date(sec * 1000).toISOString().slice(sec < 3600 ? 14 : 12, 19);
let current = -1;

// Our own controls show times in the file. Without scripts, players keep the browser's, which count from the clip.
for (const player of document.querySelectorAll("video, audio")) {
  player.controls = false;
  player.after(document.querySelector("template").content.cloneNode(true));
  update(player);
}

function update(player) {
  const hit = player.closest(".hit");
  const seek = hit.querySelector("input");
  const sec = Number(hit.dataset.startSec) + player.currentTime;
  hit.querySelector(".play").ariaLabel = `${player.paused ? "Play" : "Pause"} ${player.ariaLabel}`;
  hit.querySelector(".at").textContent = seek.ariaValueText = clock(sec);
  seek.max = player.duration || 0;
  seek.value = player.currentTime;
  hit.classList.toggle("playing", !player.paused);
  if (player.paused && !hit.matches(".started")) return;
  hit.classList.add("started");
  hit.style.setProperty("--at", sec / hit.dataset.lengthSec);
}

function goTo(index) {
  current = Math.max(0, Math.min(hits.length - 1, index));
  hits[current]?.scrollIntoView({ block: "nearest" });
  hits[current]?.focus({ preventScroll: true });
}

// Only one player plays at a time.
function pauseOthers(player) {
  for (const hit of hits) if (playerOf(hit) !== player) playerOf(hit)?.pause();
}

function play(player) {
  pauseOthers(player);
  // play() rejects if the player is paused before it starts.
  player?.play().catch(() => {});
}

// Play or pause; enlarge a photo.
function activate(hit) {
  const [player, photo] = [playerOf(hit), hit?.querySelector(".photo img")];
  if (photo) {
    dialog.querySelector("img")?.remove();
    dialog.append(photo.cloneNode());
    dialog.showModal();
  } else if (player?.paused) play(player);
  else player?.pause();
}

const keys = {
  j: () => goTo(current + 1),
  k: () => goTo(current - 1),
  p: () => activate(hits[current]),
};
for (const hit of hits.filter((hit) => hit.id.length < 6)) {
  keys[hit.id.at(-1)] = () => {
    goTo(hits.indexOf(hit));
    activate(hit);
  };
}

document.addEventListener("keydown", ({ key, ctrlKey, metaKey, altKey }) => {
  if (ctrlKey || metaKey || altKey || !keys[key]) return;
  if (dialog.open) dialog.close();
  else keys[key]();
});

document.addEventListener("click", ({ target }) => {
  const hit = document.getElementById(target.closest("a")?.getAttribute("href").slice(1));
  if (hit) {
    goTo(hits.indexOf(hit));
    play(playerOf(hit));
  } else if (target.closest(".play, .photo button")) activate(target.closest(".hit"));
  else if (target.closest("dialog")) dialog.close();
});

// j and k continue from the result that was clicked or tabbed to.
document.addEventListener("focusin", ({ target }) => {
  const index = hits.indexOf(target.closest(".hit"));
  if (index >= 0) current = index;
});

document.addEventListener("input", ({ target }) => (playerOf(target.closest(".hit")).currentTime = target.value));

for (const type of ["loadedmetadata", "play", "pause", "timeupdate"]) {
  document.addEventListener(type, ({ target }) => {
    update(target);
    // Whatever started it. The event arrives late: the player may be paused again by then.
    if (!target.paused) pauseOthers(target);
  }, true);
}
