"use strict";
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const all = (selector, within = document) => Array.from(within.querySelectorAll(selector));
  const element = (tag, text, className) => {
    const made = document.createElement(tag);
    if (text !== undefined) made.textContent = text;
    if (className) made.className = className;
    return made;
  };

  // Figures
  const config = { responsive: true, displaylogo: false, displayModeBar: false };
  for (const place of all("[data-figure]")) {
    const figure = data.figures[Number(place.dataset.figure)];
    Plotly.newPlot(place, figure.data, figure.layout, config).then(() => {
      place.dataset.drawn = "yes";
      if (figure.layout.meta && figure.layout.meta.highlight) highlight(place);
    });
  }

  // In a figure with many curves, the one under the pointer stands out.
  function highlight(place) {
    const before = place.data.map((trace) => trace.opacity === undefined ? 1 : trace.opacity);
    place.on("plotly_hover", (event) => {
      const chosen = event.points[0].curveNumber;
      if (before[chosen] === 0) return;
      Plotly.restyle(place, { opacity: before.map((value, at) => at === chosen ? 1 : value * 0.2) });
    });
    place.on("plotly_unhover", () => Plotly.restyle(place, { opacity: before }));
  }

  // Tables
  const valueOf = (row, column) => {
    const cell = row.cells[column];
    const value = cell.dataset.value === undefined ? cell.textContent.trim() : cell.dataset.value;
    return value !== "" && !isNaN(value) ? Number(value) : value;
  };
  const compare = (one, other) => {
    if (typeof one === "number" && typeof other === "number") return one - other;
    if (typeof one !== typeof other) return typeof one === "number" ? -1 : 1;
    return one.localeCompare(other);
  };
  for (const button of all("table.sortable .sort")) {
    button.addEventListener("click", () => {
      const head = button.closest("th"), table = button.closest("table"), body = table.tBodies[0];
      const rising = head.getAttribute("aria-sort") !== "ascending";
      for (const other of all("th[aria-sort]", table)) other.removeAttribute("aria-sort");
      head.setAttribute("aria-sort", rising ? "ascending" : "descending");
      const rows = Array.from(body.rows).map((row) => [valueOf(row, head.cellIndex), row]);
      rows.sort((one, other) => rising ? compare(one[0], other[0]) : compare(other[0], one[0]));
      body.append(...rows.map(([, row]) => row));
    });
  }
  for (const input of all("input.filter")) {
    input.addEventListener("input", () => {
      const wanted = input.value.toLowerCase();
      for (const row of document.getElementById(input.dataset.table).tBodies[0].rows) {
        row.hidden = !row.cells[0].textContent.toLowerCase().includes(wanted);
      }
    });
  }

  // Pictures
  for (const image of all("img[data-picture]")) {
    const source = data.pictures[Number(image.dataset.picture)];
    if (source) image.src = source; else image.replaceWith(element("span", "no picture", "none"));
  }
  function gallery(place, captions) {
    for (const caption of captions) {
      const figure = element("figure"), text = element("figcaption"), source = data.pictures[caption.picture];
      if (source) {
        const image = element("img");
        image.src = source;
        image.alt = `labelled ${caption.label}`;
        figure.append(image);
      } else figure.append(element("span", "no picture", "none"));
      text.append(element("span", `label: ${caption.label}`), element("br"));
      text.append(element("span", `model: ${caption.said}`, caption.right ? "right" : "wrong"));
      const named = /^\d+$/.test(caption.name) ? `row ${caption.name}` : caption.name.split("/").pop();
      const file = element("span", named, "file");
      file.title = caption.name;
      text.append(file);
      figure.append(text);
      place.append(figure);
    }
  }
  for (const place of all("[data-suspicious]")) {
    gallery(place, data.targets[Number(place.dataset.suspicious)].suspicious);
  }

  // Confusions
  for (const place of all("[data-confusions]")) {
    const number = Number(place.dataset.confusions), target = data.targets[number], unit = place.dataset.unit;
    const below = document.querySelector(`[data-gallery="${number}"]`);
    const names = target.classes;
    const described = (cell) => {
      const amount = `${cell.rows.toLocaleString("en")} ${unit}${cell.rows === 1 ? "" : "s"} of ${names[cell.true]}`;
      return cell.true === cell.predicted ? `${amount} recognized` : `${amount} taken for ${names[cell.predicted]}`;
    };
    const open = (button, cell) => {
      for (const other of all("[aria-pressed]", place)) other.setAttribute("aria-pressed", "false");
      button.setAttribute("aria-pressed", "true");
      const shown = cell.pictures.length < cell.rows ? `, of which ${cell.pictures.length} are shown` : "";
      const pictures = element("div", undefined, "gallery");
      gallery(pictures, cell.pictures);
      below.replaceChildren(element("p", described(cell) + shown, "explained"), pictures);
    };
    const clickable = (tag, cell, className) => {
      const button = element("button", undefined, className);
      button.type = "button";
      button.title = described(cell);
      button.setAttribute("aria-label", described(cell));
      button.setAttribute("aria-pressed", "false");
      button.dataset.cell = `${cell.true},${cell.predicted}`;
      button.addEventListener("click", () => open(button, cell));
      return button;
    };
    if (target.matrix) matrix(place, target, clickable);
    else {
      const list = element("div", undefined, "pairs-list");
      for (const cell of target.cells) {
        const button = clickable("button", cell, "pair");
        button.append(element("b", cell.rows.toLocaleString("en")));
        button.append(element("span", `${names[cell.true]} → ${names[cell.predicted]}`));
        list.append(button);
      }
      place.append(list);
    }
    const first = target.cells.find((cell) => cell.true !== cell.predicted);
    if (first) open(place.querySelector(`[data-cell="${first.true},${first.predicted}"]`), first);
  }
  function matrix(place, target, clickable) {
    const count = target.classes.length, table = element("table", undefined, "matrix");
    if (target.classes.every((name) => name.length <= (count <= 12 ? 5 : 2))) table.classList.add("short");
    table.style.setProperty("--cell", count <= 12 ? "46px" : count <= 25 ? "34px" : "22px");
    const cells = new Map(target.cells.map((cell) => [`${cell.true},${cell.predicted}`, cell]));
    const head = table.createTHead().insertRow();
    head.append(element("th", "true ↓   answer →", "corner"));
    for (const name of target.classes) {
      const column = element("th"), text = element("span", name);
      column.scope = "col";
      column.title = name;
      column.append(text);
      head.append(column);
    }
    const body = table.createTBody();
    target.classes.forEach((name, true_) => {
      const row = body.insertRow(), label = element("th", name);
      label.scope = "row";
      label.title = name;
      row.append(label);
      for (let predicted = 0; predicted < count; predicted++) {
        const cell = cells.get(`${true_},${predicted}`), box = row.insertCell();
        if (!cell) continue;
        const share = cell.rows / Math.max(1, target.support[true_]);
        const strength = true_ === predicted ? 0.12 + 0.78 * share : 0.16 + 0.84 * Math.min(1, share * 2.5);
        const button = clickable("button", cell, "cell");
        button.textContent = count <= 25 ? cell.rows : "";
        button.style.background = `rgba(${true_ === predicted ? "47,95,208" : "209,69,59"},${strength.toFixed(2)})`;
        button.style.color = strength > 0.5 ? "#fff" : "#273043";
        box.append(button);
      }
    });
    place.append(table);
  }

  // What goes on to the right fades out there: phones show no scroll bar.
  for (const place of all(".scroll")) {
    const fade = () => place.classList.toggle("more", place.scrollLeft + place.clientWidth < place.scrollWidth - 1);
    place.addEventListener("scroll", fade, { passive: true });
    new ResizeObserver(fade).observe(place);
  }

  // Commands
  for (const button of all(".copy")) {
    button.addEventListener("click", async () => {
      const code = button.parentElement.querySelector("code");
      try {
        await navigator.clipboard.writeText(code.textContent);
      } catch {
        getSelection().selectAllChildren(code);
        return;
      }
      button.textContent = "copied";
      setTimeout(() => { button.textContent = "copy"; }, 1500);
    });
  }
  document.documentElement.dataset.ready = "yes";
})();
