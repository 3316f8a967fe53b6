// Sliders over the epochs of figures; without this script the newest stay. One epoch for the page: all move together.
const figures = [...document.querySelectorAll(".frames")].filter((f) => f.querySelector("input"));

function show(figure, epoch) {
  const images = [...figure.querySelectorAll("img")];
  const off = (image) => Math.abs(image.dataset.epoch - epoch);
  const nearest = images.reduce((best, image) => (off(image) <= off(best) ? image : best));
  const input = figure.querySelector("input");
  images.forEach((image) => (image.hidden = image !== nearest));
  input.value = images.indexOf(nearest);
  input.setAttribute("aria-valuetext", `epoch ${nearest.dataset.epoch}`);
  figure.querySelector("output").textContent = `epoch ${nearest.dataset.epoch}`;
  figure.querySelector("figcaption").textContent = nearest.dataset.source;
  return nearest.dataset.epoch;
}

for (const figure of figures) {
  const images = figure.querySelectorAll("img");
  figure.querySelector(".epoch").hidden = false;
  figure.querySelector("input").addEventListener("input", (event) => {
    const epoch = images[event.target.value].dataset.epoch;
    figures.forEach((other) => show(other, epoch));
  });
}
