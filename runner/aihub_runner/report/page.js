"use strict";
// Shows the tables of the page, one page of rows at a time, with search and sort. Text is inserted as text, never as markup.
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const PAGE = matchMedia("(max-width: 40rem)").matches ? 10 : 25;
  const collator = new Intl.Collator(undefined, { numeric: true, sensitivity: "base" });

  const make = (tag, text = "", className = "") => {
    const element = document.createElement(tag);
    if (text !== "") element.textContent = text;
    if (className) element.className = className;
    return element;
  };
  const button = (text, act) => {
    const element = make("button", text);
    element.type = "button";
    element.addEventListener("click", act);
    return element;
  };
  const labelled = (text, control) => {
    const label = make("label", text);
    label.append(control);
    return label;
  };
  const percent = (value) => `${(value * 100).toFixed(1)}%`;
  const isNumber = (kind) => kind === "number" || kind === "confidence" || kind === "seconds";

  const addressOf = (path) => data.base + path.split("/").map(encodeURIComponent).join("/");

  const copy = (id, from) => {
    const done = () => {
      from.textContent = "copied";
      setTimeout(() => { from.textContent = "copy"; }, 1200);
    };
    const select = () => getSelection().selectAllChildren(id);
    if (navigator.clipboard) navigator.clipboard.writeText(id.textContent).then(done, select);
    else select();
  };

  const fill = (cell, table, row, column, index) => {
    const value = row[index];
    if (value === null || value === undefined || value === "") {
      cell.classList.add("blank");
      return;
    }
    if (column.kind === "file") {
      const address = row[table.address];
      if (!address) {
        cell.append(make("span", value, "shown soft"));
        return;
      }
      const link = make("a", value, "shown");
      link.href = addressOf(address === 1 ? value : address);
      cell.append(link);
    } else if (column.kind === "id") {
      const id = make("span", value, "id");
      const from = button("copy", () => copy(id, from));
      from.setAttribute("aria-label", `copy ${value}`);
      const both = make("span");
      both.append(id, " ", from);
      cell.append(both);
    } else if (column.kind === "confidence") {
      cell.append(make("span", percent(value), value < data.threshold ? "warn" : ""));
    } else if (column.kind === "failed") {
      cell.append(make("span", value.toLocaleString("en"), value ? "bad" : "soft"));
    } else if (column.kind === "number") {
      cell.textContent = value.toLocaleString("en");
    } else if (column.kind === "seconds") {
      cell.textContent = `${value.toLocaleString("en")} s`;
    } else {
      cell.textContent = value;
    }
  };

  const fieldsTable = (fields) => {
    const box = make("table");
    box.setAttribute("aria-label", "fields");
    for (const [name, value, confidence, error] of fields) {
      const line = make("tr");
      line.append(make("td", name, "first"));
      const shown = make("td", error || value || "", error ? "bad" : "");
      line.append(shown, make("td", typeof confidence === "number" ? percent(confidence) : "", "number"));
      box.append(line);
    }
    return box;
  };

  // Every table has its own rows, or shows some rows of another table.
  const show = (place) => {
    const table = data.tables[place.dataset.table];
    const only = place.dataset.only || "";
    const columns = table.columns;
    const indexes = columns.map((column, index) => (column.at === undefined ? index : column.at));
    let sortBy = Number(place.dataset.sort ?? -1);
    let down = false;
    let words = [];
    let picked = "";
    let below = data.threshold;
    let page = 0;
    let rows = [];

    const textOf = (row) => {
      let text = "";
      for (const index of indexes) text += `${row[index] ?? ""}\n`;
      const fields = table.detail === undefined ? null : row[table.detail];
      if (fields) for (const field of fields) text += `${field[0]}\n${field[1] ?? ""}\n${field[3] ?? ""}\n`;
      return text.toLowerCase();
    };
    const isMeant = (row) => only !== "look" || row[table.failed] || (row[table.confidence] ?? 1) < below;
    const isWanted = (row) => {
      if (!isMeant(row)) return false;
      if (picked && row[table.pick] !== picked) return false;
      if (!words.length) return true;
      const text = textOf(row);
      return words.every((word) => text.includes(word));
    };
    const compare = (a, b) => {
      const [left, right] = [a[indexes[sortBy]], b[indexes[sortBy]]];
      const [noLeft, noRight] = [left === null || left === "", right === null || right === ""];
      if (noLeft || noRight) return noLeft - noRight;
      const order = typeof left === "number" && typeof right === "number"
        ? left - right : collator.compare(left, right);
      return down ? -order : order;
    };

    const count = make("span", "", "soft");
    count.setAttribute("aria-live", "polite");
    const printed = make("p", "", "printed");
    const back = button("Previous", () => { page -= 1; draw(); });
    const next = button("Next", () => { page += 1; draw(); });
    back.setAttribute("aria-label", `Previous ${place.dataset.name}`);
    next.setAttribute("aria-label", `Next ${place.dataset.name}`);
    const scroll = make("div", "", "scroll cards");
    const body = make("tbody");
    const heads = columns.map((column, index) => {
      const head = make("th", "", isNumber(column.kind) || column.kind === "failed" ? "number" : "");
      head.scope = "col";
      head.append(button(column.name, () => {
        down = sortBy === index ? !down : Boolean(column.down);
        sortBy = index;
        select();
      }));
      return head;
    });

    // On paper there are no controls to page through rows or to see the search.
    const tellPrinted = (first, shown) => {
      const total = table.rows.filter(isMeant).length;
      if (shown === total) return "";
      const part = first ? `${first + 1}–${first + shown}` : `${shown}`;
      const chosen = rows.length === total || rows.length === shown ? "" : `${rows.length.toLocaleString("en")} matching of `;
      return `${part} of ${chosen}${total.toLocaleString("en")} ${place.dataset.name}`;
    };
    const select = () => {
      rows = table.rows.filter(isWanted);
      if (sortBy >= 0) rows.sort(compare);
      page = 0;
      draw();
    };
    const cellsOf = (row) => columns.map((column, index) => {
      const cell = make("td", "", index === 0 && column.kind !== "id" ? "first" : "");
      if (isNumber(column.kind) || column.kind === "failed") cell.classList.add("number");
      if (column.kind === "word") cell.classList.add("word");
      cell.dataset.label = column.name;
      fill(cell, table, row, column, indexes[index]);
      return cell;
    });
    const drawRow = (row) => {
      const line = make("tr");
      line.append(...cellsOf(row));
      body.append(line);
      if (table.detail === undefined) return;
      const cell = make("td");
      line.append(cell);
      const fields = row[table.detail];
      if (!fields || !fields.length) return;
      const toggle = button("fields", () => {
        if (line.nextSibling && line.nextSibling.className === "detail") {
          line.nextSibling.remove();
        } else {
          const detail = make("tr", "", "detail");
          const wide = make("td");
          wide.colSpan = columns.length + 1;
          wide.append(fieldsTable(fields));
          detail.append(wide);
          line.after(detail);
        }
        toggle.setAttribute("aria-expanded", String(line.nextSibling?.className === "detail"));
      });
      toggle.setAttribute("aria-expanded", "false");
      toggle.setAttribute("aria-label", `fields of ${row[indexes[0]]}, document ${row[indexes[1]]}`);
      cell.append(toggle);
    };
    const draw = () => {
      heads.forEach((head, index) => {
        if (index === sortBy) head.setAttribute("aria-sort", down ? "descending" : "ascending");
        else head.removeAttribute("aria-sort");
      });
      body.replaceChildren();
      const first = page * PAGE;
      const shown = rows.slice(first, first + PAGE);
      shown.forEach(drawRow);
      if (!shown.length) {
        const line = make("tr");
        const cell = make("td", "No matches.", "first soft");
        cell.colSpan = columns.length + 1;
        line.append(cell);
        body.append(line);
      }
      const total = rows.length.toLocaleString("en");
      count.textContent = shown.length ? `${(first + 1).toLocaleString("en")}–${(first + shown.length).toLocaleString("en")} of ${total}` : "0";
      printed.textContent = tellPrinted(first, shown.length);
      back.disabled = page === 0;
      next.disabled = first + PAGE >= rows.length;
      back.hidden = next.hidden = rows.length <= PAGE;
    };

    const tools = make("div", "", "tools");
    const search = make("input");
    search.type = "search";
    search.placeholder = "Search";
    search.setAttribute("aria-label", `Search in ${place.dataset.name}`);
    search.addEventListener("input", () => {
      words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
      select();
    });
    tools.append(search);
    if (table.pick !== undefined && table.choices.length > 1) {
      const choice = make("select");
      choice.append(new Option("all", ""));
      for (const name of table.choices) choice.append(new Option(name, name));
      choice.addEventListener("change", () => { picked = choice.value; select(); });
      tools.append(labelled(columns[indexes.indexOf(table.pick)].name, choice));
    }
    if (only === "look" && place.dataset.confidence) {
      const number = make("input");
      Object.assign(number, { type: "number", min: 0, max: 100, step: 1, value: Math.round(below * 100) });
      number.addEventListener("input", () => { below = Number(number.value) / 100; select(); });
      tools.append(labelled("Confidence below, in %", number));
    }
    tools.append(count, back, next);
    const head = make("thead");
    const titles = make("tr");
    titles.append(...heads);
    if (table.detail !== undefined) titles.append(make("td", "", "quiet"));
    head.append(titles);
    const box = make("table");
    const caption = make("caption", place.dataset.name[0].toUpperCase() + place.dataset.name.slice(1));
    box.append(caption, head, body);
    scroll.append(box);
    place.replaceChildren(tools, scroll, printed);
    select();
  };

  for (const table of Object.values(data.tables)) {
    for (const [index, values] of Object.entries(table.lists ?? {})) {
      for (const row of table.rows) if (row[index] !== null) row[index] = values[row[index]];
    }
    if (table.pick !== undefined) table.choices = (table.lists[table.pick] ?? []).slice().sort(collator.compare);
  }
  document.querySelectorAll("[data-table]").forEach(show);
})();
