// Text tables in pieces: records of RFC 4180, quoted cells with line ends in them included, as the text arrives.

export class CsvReader {
  constructor(separator = ",") {
    this.separator = separator;
    this.isQuoted = false;
    this.wasQuote = false; // the last sign ended a quotation, or is the first of two
    this.cell = "";
    this.record = [];
    this.line = 1; // of the next sign
    this.start = 1; // line of the record that is being read
  }

  // Returns the records that `text` completes: [{line, cells}].
  push(text) {
    const done = [];
    for (const sign of text) {
      if (this.isQuoted) {
        if (sign !== '"') this.cell += sign;
        else { this.isQuoted = false; this.wasQuote = true; }
        if (sign === "\n") this.line += 1;
        continue;
      }
      if (sign === '"' && (this.cell === "" || this.wasQuote)) {
        if (this.wasQuote) this.cell += '"';
        this.isQuoted = true;
        this.wasQuote = false;
        continue;
      }
      this.wasQuote = false;
      if (sign === this.separator) this.#endCell();
      else if (sign === "\n") { this.line += 1; this.#endRecord(done); }
      else if (sign !== "\r") this.cell += sign;
    }
    return done;
  }

  // Returns the last record, where no line end follows it.
  end() {
    const done = [];
    this.#endRecord(done);
    return done;
  }

  #endCell() {
    this.record.push(this.cell);
    this.cell = "";
  }

  #endRecord(done) {
    const isEmpty = this.record.length === 0 && this.cell === "";
    this.#endCell();
    if (!isEmpty) done.push({ line: this.start, cells: this.record });
    this.record = [];
    this.start = this.line;
  }
}

// The sign between the cells of a header: the one that occurs most often.
export const separatorOf = (header) => [",", "\t", ";"].reduce((best, one) => (header.split(one).length > header.split(best).length ? one : best));

// All records of a short text: {names, records: [{line, cells}]}.
export const readCsv = (text) => {
  const whole = text.replace(/^\ufeff/, "");
  const reader = new CsvReader(separatorOf(whole.split("\n", 1)[0]));
  const [first, ...records] = [...reader.push(whole), ...reader.end()];
  return { names: (first?.cells || []).map((name) => name.trim()), records };
};
