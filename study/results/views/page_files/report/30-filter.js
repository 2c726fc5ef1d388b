// Which points are visible: by their marks and by the filter, which is read as `report --where` is,
// by the grammar of study/results/where.py.

const { where } = content;
const AND = new RegExp(where.and, "i");
const OR = new RegExp(where.or, "i");
const BETWEEN = new RegExp(where.between, "gi");
const FOR_MLFLOW = new RegExp(`^${where.for_mlflow}`);
const CONDITION = new RegExp(`^(?:${where.condition})$`);
const NUMBER = new RegExp(`^(?:${where.number})$`);
const NAMES = new Map(Object.entries(where.names));
const WORDS = new Map(Object.entries(where.words));
const OPERATORS = {
  "<": (isLess, isSame) => isLess && !isSame,
  "<=": (isLess, isSame) => isLess || isSame,
  ">": (isLess, isSame) => !isLess && !isSame,
  ">=": (isLess, isSame) => !isLess || isSame,
  "=": (isLess, isSame) => isSame,
  "!=": (isLess, isSame) => !isSame,
};
const holds = (value, operator, limit) => OPERATORS[operator](value < limit, value === limit);
const isMetric = (name) => Object.hasOwn(metricOf, name);
const toNumber = (text) => Number(text.replace("inf", "Infinity"));

// Whether the number that was typed is this value, rounded as a table prints it or, with more
// places, as the number is typed.
const isSameNumber = (name, known, text) => {
  const wanted = toNumber(text);
  const isWhole = !isMetric(name) && Number.isInteger(known) && Math.abs(known) < where.printed.long;
  if (known === wanted || isWhole || !Number.isFinite(known - wanted)) return known === wanted;
  const [mantissa, exponent] = text.toLowerCase().split("e");
  const typed = (mantissa.split(".")[1] || "").length - Number(exponent || 0);
  const decimals = isMetric(name) ? metricOf[name].decimals : null;
  const digits = isMetric(name) ? where.printed.metric_digits : where.printed.digits;
  const printed = decimals === null
    ? digits - 1 - Number(wanted.toExponential(6).split("e")[1])
    : Math.min(decimals, where.printed.decimals);
  const half = 0.5 * 10 ** -Math.max(typed, printed);
  return Math.abs(known - wanted) <= half + 1e-14 * Math.abs(known);
};

// The number of letters that two words share in order: the longest run of both, and likewise on both
// sides of it (Ratcliff and Obershelp, as in Python's difflib).
const shared = (a, b) => {
  let [length, at, there] = [0, 0, 0];
  for (let i = 0; i < a.length; i++) {
    for (let k = 0; k < b.length; k++) {
      let run = 0;
      while (i + run < a.length && a[i + run] === b[k + run]) run++;
      if (run > length) [length, at, there] = [run, i, k];
    }
  }
  if (!length) return 0;
  return length + shared(a.slice(0, at), b.slice(0, there))
    + shared(a.slice(at + length), b.slice(there + length));
};
const unknown = (name, known, what) => {
  const ratio = (word) => 2 * shared(word, name) / (word.length + name.length);
  const [near] = known.filter((word) => ratio(word) >= 0.6)
    .sort((a, b) => ratio(b) - ratio(a) || (a < b ? 1 : -1));
  const listed = known.slice(0, 20).join(", ");
  const more = known.length > 20 ? ` and ${known.length - 20} more` : "";
  return `unknown ${what} '${name}'; `
    + (near ? `did you mean '${near}'?` : `there are ${listed}${more}`);
};
const isKnown = (name) => isMetric(name) || Object.hasOwn(where.parameters, name);

// What is wrong with a condition, in a sentence; empty if nothing is.
const problemOf = (part, match) => {
  if (FOR_MLFLOW.test(part)) {
    return `a condition for MLflow can be given to report --where alone, but got '${part.trim()}'`;
  }
  if (!match) return `${where.form}, but got '${part.trim()}'`;
  const { name, operator, text } = match;
  const isEquality = operator === "=" || operator === "!=";
  if (where.texts.includes(name)) {
    if (!isEquality) return `${name} must be followed by = or !=, but got '${operator}'`;
    const isMark = name !== "mark" || where.marks.includes(text);
    return isMark ? "" : unknown(text, where.marks, "mark");
  }
  if (!isKnown(name)) {
    const known = [
      ...paramNames, ...Object.keys(metricOf), ...Object.keys(where.parameters), ...where.texts,
    ];
    return unknown(name, [...new Set(known)], "metric or hyperparameter");
  }
  if ((isEquality && !isMetric(name)) || NUMBER.test(text)) return "";
  return `${name} ${operator} must be followed by a number, but got '${text}'`;
};
const parseCondition = (part) => {
  const groups = part.match(CONDITION);
  if (!groups) return { problem: problemOf(part, null) };
  const [, name, operator, value] = groups;
  const match = {
    name: NAMES.get(name) || name,
    operator: operator === "==" ? "=" : operator,
    text: value.replace(/^['"]+|['"]+$/g, ""),
  };
  return { ...match, problem: problemOf(part, match) };
};
const setFilter = (text) => {
  state.filter = text;
  state.alternatives = text.trim()
    ? text.replace(BETWEEN, "$1 >= $2 and $1 <= $3").split(OR)
      .map((every) => every.split(AND).map(parseCondition))
    : [[]];
};
const filterProblem = () => (
  (state.alternatives.flat().find((condition) => condition.problem) || { problem: "" }).problem
);
// As text or a number; null where a point has none. Of a point of several trainings the mean, which
// stands in the table.
const valueOf = (name, i) => {
  if (isMetric(name)) {
    const text = (points.infinite[name] || {})[i];
    if (text !== undefined) return toNumber(text);
    return points[name] ? points[name][i] : null;
  }
  const values = where.parameters[name];
  return Array.isArray(values) ? values[i] : values;
};
const meets = ({ name, operator, text }, i) => {
  if (where.texts.includes(name)) {
    const known = points[name][i];
    const names = name === "network" ? [known, known.slice(known.indexOf("/") + 1)] : [known];
    return names.includes(text) === (operator === "=");
  }
  const value = valueOf(name, i);
  if (value === null) return false;
  if (NUMBER.test(text) && (typeof value === "number" || NUMBER.test(value))) {
    const known = typeof value === "number" ? value : toNumber(value);
    return OPERATORS[operator](known < toNumber(text), isSameNumber(name, known, text));
  }
  const isSame = value === text || value === WORDS.get(text.toLowerCase());
  return (operator === "=" && isSame) || (operator === "!=" && !isSame);
};
const visible = () => {
  if (filterProblem()) return [];
  const kept = [];
  for (let i = 0; i < n; i++) {
    if (!state.marks.has(points.mark[i])) continue;
    const isKept = state.alternatives.some((every) => every.every((one) => meets(one, i)));
    if (isKept) kept.push(i);
  }
  return kept;
};
