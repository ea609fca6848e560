// Answers of the servers as frames, named as Grafana's data sources name them.
import { FieldType, toDataFrame } from '@grafana/data';

export const framesOf = (target, answer) => (Array.isArray(answer) ? influx(target, answer) : elastic(target, answer));

const field = (name, values, config = {}) => ({
  name,
  values,
  config,
  type: name === 'Time' || name === '@timestamp' ? FieldType.time : typeOf(values),
});

const typeOf = (values) => {
  const some = values.find((value) => value !== null && value !== undefined);
  return typeof some === 'string' ? FieldType.string : FieldType.number;
};

// InfluxQL: a frame for each series, or one table with a row for each.
function influx(target, series) {
  if (target.resultFormat === 'table') {
    return series.length ? [influxTable(target, series)] : [];
  }
  return series.map(({ columns, tags = {}, values }) => {
    const name = target.alias.replace(/\$tag_(\w+)/g, (_, tag) => tags[tag] ?? '');
    const cells = columns.slice(1).map((column, at) => field(column, values.map((row) => row[at + 1]), { displayNameFromDS: name }));
    return toDataFrame({ refId: target.refId, name, fields: [field('Time', values.map((row) => row[0])), ...cells] });
  });
}

function influxTable(target, series) {
  const tags = Object.keys(series[0].tags ?? {});
  const rows = series.flatMap((one) => one.values.map(([time, ...cells]) => [time, ...tags.map((tag) => one.tags[tag]), ...cells]));
  const names = ['Time', ...tags, ...series[0].columns.slice(1)];
  return toDataFrame({ refId: target.refId, fields: names.map((name, at) => field(name, rows.map((row) => row[at]))) });
}

// Elasticsearch: documents, series of a histogram, or one table of buckets.
function elastic(target, answer) {
  const { metrics, bucketAggs, refId } = target;
  if (metrics[0].type === 'raw_data') {
    return [documents(refId, answer.hits.hits.map((hit) => flat(hit._source)))];
  }
  const leaves = leavesOf(answer.aggregations, bucketAggs, {});
  if (bucketAggs.at(-1).type === 'date_histogram') {
    return histograms(refId, metrics[0], leaves);
  }
  const columns = bucketAggs.map((by) => field(by.field, leaves.map(({ keys }) => keys[by.field])));
  const sums = metrics.map((metric) => field(nameOf(metric), leaves.map(({ bucket }) => valueOf(metric, bucket))));
  return leaves.length ? [toDataFrame({ refId, fields: [...columns, ...sums] })] : [];
}

function leavesOf(level, [by, ...rest], keys) {
  return level[by.id].buckets.flatMap((bucket) => {
    const inner = { ...keys, [by.field]: bucket.key };
    return rest.length ? leavesOf(bucket, rest, inner) : [{ keys: inner, bucket }];
  });
}

function histograms(refId, metric, leaves) {
  const groups = Map.groupBy(leaves, ({ keys: { '@timestamp': _, ...terms } }) => Object.values(terms).join(' '));
  return [...groups].map(([terms, buckets]) => {
    const name = terms || nameOf(metric);
    const time = field('Time', buckets.map(({ bucket }) => bucket.key));
    const values = field('Value', buckets.map(({ bucket }) => valueOf(metric, bucket)), { displayNameFromDS: name });
    return toDataFrame({ refId, name, fields: [time, values] });
  });
}

const nameOf = ({ type, field }) => (type === 'count' ? 'Count' : `${type[0].toUpperCase()}${type.slice(1)} ${field}`);
const valueOf = ({ type, id }, bucket) => (type === 'count' ? bucket.doc_count : bucket[id].value);

function documents(refId, rows) {
  const names = [...new Set(rows.flatMap(Object.keys))];
  const value = (row, name) => (name === '@timestamp' ? Date.parse(row[name]) : row[name] ?? null);
  return toDataFrame({ refId, fields: names.map((name) => field(name, rows.map((row) => value(row, name)))) });
}

function flat(value, path = '') {
  const isObject = value !== null && typeof value === 'object' && !Array.isArray(value);
  if (!isObject) {
    return { [path]: Array.isArray(value) ? value.join(', ') : value };
  }
  return Object.assign({}, ...Object.entries(value).map(([name, inner]) => flat(inner, path ? `${path}.${name}` : name)));
}
