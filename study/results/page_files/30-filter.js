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
  points.origin[i],
  points.reason[i] || "",
  ...paramNames.map((name) => formatted(points.params[name][i])),
].join(" ").toLowerCase());
const matches = (term, i) => {
  if (!term.column) return words[i].includes(term.text);
  const value = column(term.column)[i];
  if (typeof value === "number") return holds(value, term.operator, term.value);
  return term.operator === "=" && String(value) === term.text;
};
const COMPARISON = /^([A-Za-z_][\w.]*)(<=|>=|<|>|=)(.+)$/;
const parseTerm = (word) => {
  const parts = word.match(COMPARISON);
  if (parts && column(parts[1])) {
    return { column: parts[1], operator: parts[2], value: Number(parts[3]), text: parts[3] };
  }
  return { text: word.toLowerCase() };
};
const splitWords = (text) => text.trim().split(/\s+/).filter(Boolean);
const setFilter = (text) => {
  state.filter = text;
  state.terms = splitWords(text).map(parseTerm);
};
// What is wrong with a filter, in a sentence; empty if nothing is.
const filterProblem = () => {
  for (const word of splitWords(state.filter)) {
    const parts = word.match(COMPARISON);
    if (parts && !column(parts[1])) {
      const known = [...metricNames, ...paramNames, "projected_to", "mark", "front_share"].join(", ");
      return `There is no column ${parts[1]}: there are ${known}.`;
    }
    if (parts && typeof parseTerm(word).value === "number" && Number.isNaN(parseTerm(word).value)
      && isNumeric(parts[1])) {
      return `${parts[1]} is compared with a number, but ${parts[3]} is none.`;
    }
    if (/^(<=|>=|<|>|=)/.test(word) || /(<=|>=|<|>|=)$/.test(word)) {
      return `A comparison has no blanks in it: ${content.accuracy}>0.9, and not ${content.accuracy} > 0.9.`;
    }
  }
  return "";
};
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
