// Which points are visible: by their marks and by the filter, which is read as `report --where` is,
// by the grammar of study/results/where.py.

const { where } = content;
const AND = new RegExp(where.and, "i");
const FOR_MLFLOW = new RegExp(`^${where.for_mlflow}`);
const CONDITION = new RegExp(`^(?:${where.condition})$`);
const NUMBER = new RegExp(`^(?:${where.number})$`);
const NAMES = new Map(Object.entries(where.names));
const WORDS = new Map(Object.entries(where.words));
const OPERATORS = {
  "<": (value, limit) => value < limit,
  "<=": (value, limit) => value <= limit,
  ">": (value, limit) => value > limit,
  ">=": (value, limit) => value >= limit,
  "=": (value, limit) => value === limit,
  "!=": (value, limit) => value !== limit,
};
const holds = (value, operator, limit) => OPERATORS[operator](value, limit);
const isMetric = (name) => Object.hasOwn(metricOf, name);
const toNumber = (text) => Number(text.replace("inf", "Infinity"));

// What is wrong with a condition, in a sentence; empty if nothing is.
const problemOf = (part, match) => {
  if (FOR_MLFLOW.test(part)) {
    return `a condition for MLflow can be given to report --where alone, but got '${part.trim()}'`;
  }
  if (!match) return `${where.form}, but got '${part.trim()}'`;
  const { name, operator, text } = match;
  if (!isMetric(name) && !Object.hasOwn(where.parameters, name)) {
    return `unknown metric or hyperparameter '${name}'; there are `
      + [...Object.keys(metricOf), ...Object.keys(where.parameters)].join(", ");
  }
  const isText = !isMetric(name) && (operator === "=" || operator === "!=");
  if (isText || NUMBER.test(text)) return "";
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
  state.conditions = text.trim() ? text.split(AND).map(parseCondition) : [];
};
const filterProblem = () => (
  (state.conditions.find((condition) => condition.problem) || { problem: "" }).problem
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
  const value = valueOf(name, i);
  if (value === null) return false;
  if (NUMBER.test(text) && (typeof value === "number" || NUMBER.test(value))) {
    return holds(typeof value === "number" ? value : toNumber(value), operator, toNumber(text));
  }
  const isSame = value === text || value === WORDS.get(text.toLowerCase());
  return (operator === "=" && isSame) || (operator === "!=" && !isSame);
};
const visible = () => {
  if (filterProblem()) return [];
  const kept = [];
  for (let i = 0; i < n; i++) {
    if (!state.marks.has(points.mark[i])) continue;
    if (state.conditions.every((condition) => meets(condition, i))) kept.push(i);
  }
  return kept;
};
