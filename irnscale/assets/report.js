"use strict";
for (const root of document.querySelectorAll(".compare")) {
  const crops = JSON.parse(root.querySelector("script").textContent);
  const [which, left, right] = root.querySelectorAll("select");
  const stage = root.querySelector(".stage");
  const images = { left: stage.querySelector(".left"), right: stage.querySelector(".right") };
  const notes = { left: root.querySelector(".note-left"), right: root.querySelector(".note-right") };
  const range = root.querySelector("input");

  const show = () => {
    const crop = crops[which.value];
    for (const [side, select] of [["left", left], ["right", right]]) {
      images[side].src = crop.pictures[select.value];
      images[side].alt = select.value;
      notes[side].textContent = `${select.value}: ${crop.notes[select.value]}`;
    }
  };
  const fill = () => {
    const labels = Object.keys(crops[which.value].pictures);
    for (const [select, wanted] of [[left, crops[which.value].left], [right, crops[which.value].right]]) {
      const kept = labels.includes(select.value) ? select.value : wanted;
      select.replaceChildren(...labels.map((label) => new Option(label, label, false, label === kept)));
    }
    show();
  };
  const cut = (percent) => {
    range.value = percent;
    stage.style.setProperty("--cut", `${range.value}%`);
  };
  const follow = (event) => {
    const box = stage.getBoundingClientRect();
    cut((100 * (event.clientX - box.left)) / box.width);
  };

  which.replaceChildren(...crops.map((crop, index) => new Option(crop.title, index)));
  which.addEventListener("change", fill);
  left.addEventListener("change", show);
  right.addEventListener("change", show);
  range.addEventListener("input", () => cut(range.value));
  stage.addEventListener("pointerdown", (event) => {
    stage.setPointerCapture(event.pointerId);
    follow(event);
  });
  stage.addEventListener("pointermove", (event) => {
    if (event.buttons) follow(event);
  });
  cut(50);
  fill();
}
