// The model behind the trace page: columns from the server, which rows are shown, sums, and who is whose neighbour.
// No DOM here. A shown row is a number: a row of the tree, or `fold(row)` for alike siblings shown as one.

export const FLAG = { orphan: 1, open: 2, cycle: 4, early: 8, late: 16, critical: 32, dropped: 64, billed: 128 };
export const fold = (row) => -row - 1;
export const isFold = (entry) => entry < 0;
export const rowOf = (entry) => (entry < 0 ? -entry - 1 : entry);
const ERROR = 2;

export class Tree {
  constructor(columns) {
    Object.assign(this, columns);
    this.size = this.ids.length;
    this.collapsed = new Uint8Array(this.size);
    this.runs = new Map(columns.runs);
    this.unfolded = new Set();
    this.matches = null;
    this.onlyCritical = false;
    this.entries = new Int32Array(0);
    this.byTime = null;
    this.root = 0;
    while (this.root < this.size - 1 && (this.depths[this.root] || this.flags[this.root] & (FLAG.orphan | FLAG.cycle))) this.root += 1;
    if (this.depths[this.root]) this.root = 0;
    this.sumUp();
  }

  name = (row) => this.words.names[this.names[row]];
  kind = (row) => this.words.kinds[this.kinds[row]];
  model = (row) => (this.models[row] < 0 ? "" : this.words.models[this.models[row]]);
  isError = (row) => this.statuses[row] === ERROR;
  has = (row, flag) => (this.flags[row] & flag) !== 0;
  end = (row) => (this.lengths[row] === null ? Math.max(this.duration_us, this.starts[row]) : this.starts[row] + this.lengths[row]);
  rowOfId = (id) => (this.places ??= new Map(this.ids.map((each, row) => [each, row]))).get(id) ?? -1;

  // Sums from the first row up to each row: the difference of two is what a subtree used.
  sumUp() {
    const running = (value) => {
      const sums = new Float64Array(this.size + 1);
      for (let row = 0; row < this.size; row += 1) sums[row + 1] = sums[row] + value(row);
      return sums;
    };
    const counted = (column) => (row) => (this.flags[row] & FLAG.billed ? column[row] ?? 0 : 0);
    const known = (column) => (row) => (this.flags[row] & FLAG.billed && column[row] !== null ? 1 : 0);
    this.totals = {
      tokensIn: running(counted(this.tokens_in)),
      tokensOut: running(counted(this.tokens_out)),
      knownIn: running(known(this.tokens_in)),
      knownOut: running(known(this.tokens_out)),
      cost: running(counted(this.cost)),
      priced: running(known(this.cost)),
      calls: running((row) => (this.flags[row] & FLAG.billed ? 1 : 0)),
      errors: running((row) => (this.statuses[row] === ERROR ? 1 : 0)),
    };
  }

  sums(first, end) {
    const of = (name) => this.totals[name][end] - this.totals[name][first];
    return {
      tokensIn: of("knownIn") ? of("tokensIn") : null,
      tokensOut: of("knownOut") ? of("tokensOut") : null,
      cost: of("priced") ? of("cost") : null,
      calls: of("calls"),
      unpriced: of("calls") - of("priced"),
      errors: of("errors"),
    };
  }

  after = (row) => row + this.below[row] + 1;
  subtree = (row) => this.sums(row, this.after(row));

  // The row behind the last sibling of a run, and its members.
  runEnd(head) {
    let row = head;
    for (let left = this.runs.get(head); left > 0; left -= 1) row = this.after(row);
    return row;
  }

  members(head) {
    const rows = [];
    for (let row = head, left = this.runs.get(head); left > 0; left -= 1, row = this.after(row)) rows.push(row);
    return rows;
  }

  isFolded = (row) => this.runs.has(row) && !this.unfolded.has(row);

  // Words that must all be in a row's name, kind, model or id; `error` and `critical` stand for themselves.
  filter(text) {
    const words = text.toLowerCase().split(/\s+/).filter(Boolean);
    if (!words.length) {
      this.matches = null;
      return;
    }
    const hits = (list, word) => list.map((each) => each.toLowerCase().includes(word));
    const tests = words.map((word) => ({
      word,
      names: hits(this.words.names, word),
      kinds: hits(this.words.kinds, word),
      models: hits(this.words.models, word),
      isId: /^[0-9a-f]{4,16}$/.test(word),
    }));
    this.matches = new Uint8Array(this.size);
    for (let row = 0; row < this.size; row += 1) {
      this.matches[row] = tests.every(
        (test) =>
          test.names[this.names[row]] ||
          test.kinds[this.kinds[row]] ||
          (this.models[row] >= 0 && test.models[this.models[row]]) ||
          (test.word === "error" && this.isError(row)) ||
          (test.word === "critical" && this.has(row, FLAG.critical)) ||
          (test.isId && this.ids[row].startsWith(test.word)),
      )
        ? 1
        : 0;
    }
  }

  // Which rows are shown, in order. A filter keeps matches and what is above them; folds and collapsed rows open for it.
  arrange(view) {
    const wanted = (row) => (!this.matches || this.matches[row]) && (!this.onlyCritical || this.has(row, FLAG.critical));
    if (view === "list") {
      this.byTime ??= Int32Array.from(this.ids.keys()).sort((one, other) => this.starts[one] - this.starts[other] || one - other);
      this.entries = this.byTime.filter(wanted);
      this.nMatches = this.entries.length;
      return;
    }
    const isNarrowed = this.matches !== null || this.onlyCritical;
    const kept = isNarrowed ? this.withParents(wanted) : null;
    this.nMatches = kept ? this.nWanted : this.size;
    const shown = new Int32Array(this.size);
    let count = 0;
    for (let row = 0; row < this.size; ) {
      if (kept && !kept[row]) row = this.after(row);
      else if (!kept && this.isFolded(row)) {
        shown[count++] = fold(row);
        row = this.runEnd(row);
      } else {
        shown[count++] = row;
        row = !kept && this.collapsed[row] ? this.after(row) : row + 1;
      }
    }
    this.entries = shown.subarray(0, count);
  }

  withParents(wanted) {
    const kept = new Uint8Array(this.size);
    this.nWanted = 0;
    for (let row = this.size - 1; row >= 0; row -= 1) {
      const isWanted = wanted(row);
      if (isWanted) this.nWanted += 1;
      if (kept[row] || isWanted) {
        kept[row] = 1;
        if (this.parents[row] >= 0) kept[this.parents[row]] = 1;
      }
    }
    return kept;
  }

  // Opens whatever hides a row.
  reveal(row) {
    for (let at = this.parents[row]; at >= 0; at = this.parents[at]) this.collapsed[at] = 0;
    for (let at = row; at >= 0; at = this.parents[at]) {
      const head = this.headOf(at);
      if (head >= 0) this.unfolded.add(head);
    }
  }

  headOf(row) {
    this.heads ??= this.mapHeads();
    return this.heads[row];
  }

  mapHeads() {
    const heads = new Int32Array(this.size).fill(-1);
    for (const head of this.runs.keys()) for (const row of this.members(head)) heads[row] = head;
    return heads;
  }

  placeOf(row) {
    const exact = this.entries.indexOf(row);
    return exact >= 0 ? exact : this.entries.indexOf(fold(this.headOf(row) >= 0 ? this.headOf(row) : row));
  }

  sibling(row, step) {
    if (step > 0) {
      const next = this.after(row);
      return next < this.size && this.parents[next] === this.parents[row] ? next : -1;
    }
    for (let at = row - 1; at >= 0 && at > this.parents[row]; at -= 1) if (this.parents[at] === this.parents[row]) return at;
    return -1;
  }

  nextError(row, step) {
    for (let moved = 1; moved <= this.size; moved += 1) {
      const at = (((row + step * moved) % this.size) + this.size) % this.size;
      if (this.isError(at)) return at;
    }
    return -1;
  }

  setAll(isCollapsed) {
    for (let row = 0; row < this.size; row += 1) this.collapsed[row] = isCollapsed && this.below[row] && this.depths[row] > 0 ? 1 : 0;
    this.unfolded = isCollapsed ? new Set() : new Set(this.runs.keys());
  }

  // A newer state of the same trace keeps what was opened and closed.
  takeOver(older) {
    for (let row = 0; row < older.size; row += 1) {
      if (older.collapsed[row]) this.collapsed[Math.max(0, this.rowOfId(older.ids[row]))] = 1;
    }
    for (const head of older.unfolded) this.unfolded.add(this.rowOfId(older.ids[head]));
    this.onlyCritical = older.onlyCritical;
  }
}
