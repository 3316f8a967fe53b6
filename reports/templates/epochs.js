// One epoch for the page: every slider moves together, and what has a picture of an epoch shows the nearest it has.
const nearest = (epochs, epoch) => epochs.reduce((best, e) => (Math.abs(e - epoch) <= Math.abs(best - epoch) ? e : best));

function followEpochs(figure, epochs, show) {
  const slider = figure.querySelector(".epoch");
  let now = epochs.at(-1);
  const move = (epoch) => {
    now = nearest(epochs, epoch);
    const input = slider.querySelector("input");
    input.value = epochs.indexOf(now);
    input.setAttribute("aria-valuetext", `epoch ${now}`);
    slider.querySelector("output").textContent = `epoch ${now}`;
    show(now);
  };
  if (!slider) return;
  slider.hidden = false;
  slider.querySelector("input").addEventListener("input", (event) =>
    dispatchEvent(new CustomEvent("epoch", { detail: epochs[event.target.value] })));
  addEventListener("epoch", (event) => nearest(epochs, event.detail) !== now && move(event.detail));
}

for (const figure of document.querySelectorAll("figure.frames")) {
  const images = [...figure.querySelectorAll("img[data-epoch]")];
  followEpochs(figure, images.map((image) => +image.dataset.epoch), (epoch) => {
    images.forEach((image) => (image.hidden = +image.dataset.epoch !== epoch));
    figure.querySelector("figcaption").textContent = images.find((image) => !image.hidden).dataset.source;
  });
}
