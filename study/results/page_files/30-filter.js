// Which points are visible: by their marks, by the filter, and by ranges of the parallel axes.

const holds = (value, operator, limit) => {
  switch (operator) {
    case "<": return value < limit;
    case "<=": return value <= limit;
    case ">": return value > limit;
    case ">=": return value >= limit;
    default: return value === limit;
  }
};
const words = points.label.map((label, i) => [
  label,
  points.mark[i],
  points.run_id[i],
  points.reason[i] || "",
  ...paramNames.map((name) => formatted(points.params[name][i])),
].join(" ").toLowerCase());
const matches = (term, i) => {
  if (!term.column) return words[i].includes(term.text);
  const value = column(term.column)[i];
  if (typeof value === "number") return holds(value, term.operator, term.value);
  return term.operator === "=" && String(value) === term.text;
};
const parseTerm = (word) => {
  const parts = word.match(/^([A-Za-z_][\w.]*)(<=|>=|<|>|=)(.+)$/);
  if (parts && column(parts[1])) {
    return { column: parts[1], operator: parts[2], value: Number(parts[3]), text: parts[3] };
  }
  return { text: word.toLowerCase() };
};
const parseFilter = (text) => text.trim().split(/\s+/).filter(Boolean).map(parseTerm);
// A point that has no value on an axis is in no range of it.
const isWithin = ({ get, ranges }, i) => {
  const value = get(i);
  return value !== null && ranges.some(([low, high]) => low <= value && value <= high);
};
const visible = (withRanges = true) => {
  const kept = [];
  for (let i = 0; i < n; i++) {
    if (!state.marks.has(points.mark[i])) continue;
    if (withRanges && !state.ranges.every((range) => isWithin(range, i))) continue;
    if (state.terms.every((term) => matches(term, i))) kept.push(i);
  }
  return kept;
};
