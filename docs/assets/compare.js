// A slider between two pictures, in every <div class="compare"> that holds two of them.
// Without this script they are shown side by side. The range input is what a keyboard and a
// screen reader use, and what a finger or a mouse drags; it lies over the pictures, unseen.
for (const place of document.querySelectorAll("div.compare")) {
  const [before, after] = place.querySelectorAll("img");
  if (!after) continue;
  const frame = document.createElement("div");
  frame.className = "compare-frame";
  const range = document.createElement("input");
  Object.assign(range, { type: "range", min: 0, max: 100, value: 50, step: 1 });
  range.setAttribute("aria-label", `${before.alt} on the left, ${after.alt} on the right`);
  const line = document.createElement("span");
  line.className = "compare-line";
  const labels = [before, after].map((picture, right) => {
    const label = document.createElement("span");
    label.className = `compare-label ${right ? "compare-right" : "compare-left"}`;
    label.textContent = picture.alt;
    return label;
  });
  const split = () => {
    frame.style.setProperty("--split", `${range.value}%`);
    labels[0].hidden = range.value < 15;
    labels[1].hidden = range.value > 85;
  };
  range.addEventListener("input", split);
  frame.append(after, before, line, ...labels, range);
  before.classList.add("compare-before");
  place.replaceChildren(frame);
  split();
}
