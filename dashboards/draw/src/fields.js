// What Grafana knows of a field's configuration: its own settings, and those of a kind of panel.
import {
  applyFieldOverrides, cacheFieldDisplayNames, dataLinksOverrideProcessor, FieldConfigOptionsRegistry, identityOverrideProcessor,
  standardTransformers, standardTransformersRegistry, thresholdsOverrideProcessor, transformDataFrame,
  valueMappingsOverrideProcessor,
} from '@grafana/data';
import { lastValueFrom } from 'rxjs';

const STANDARD = ['unit', 'min', 'max', 'decimals', 'displayName', 'noValue', 'color', 'filterable', 'thresholds', 'mappings', 'links'];
const PROCESSORS = { thresholds: thresholdsOverrideProcessor, mappings: valueMappingsOverrideProcessor, links: dataLinksOverrideProcessor };

// As the plug-ins of these panels have it where a board says nothing.
const CUSTOM = {
  timeseries: {
    drawStyle: 'line', lineInterpolation: 'linear', lineWidth: 1, fillOpacity: 0, gradientMode: 'none', showPoints: 'auto',
    pointSize: 5, spanNulls: false, barAlignment: 0, barWidthFactor: 0.6, axisPlacement: 'auto', axisLabel: '',
    axisColorMode: 'text', axisBorderShow: false, axisCenteredZero: false, scaleDistribution: { type: 'linear' },
    thresholdsStyle: { mode: 'off' }, hideFrom: { tooltip: false, viz: false, legend: false }, insertNulls: false,
    stacking: { mode: 'none', group: 'A' }, axisSoftMin: undefined,
  },
  table: { align: 'auto', cellOptions: { type: 'auto' }, inspect: false, width: undefined, minWidth: undefined, filterable: false, hideFrom: undefined },
  stat: {},
};

const { organizeFieldsTransformer, filterFieldsByNameTransformer, sortByTransformer, limitTransformer } = standardTransformers;
const TRANSFORMERS = [organizeFieldsTransformer, filterFieldsByNameTransformer, sortByTransformer, limitTransformer];

standardTransformersRegistry.setInit(() =>
  TRANSFORMERS.map((one) => ({ id: one.id, name: one.name, transformation: one, editor: () => null }))
);

// The panel's transformations, then its units, names, colours and widths.
export async function fieldsOf(panel, frames, theme) {
  const changed = await lastValueFrom(transformDataFrame(panel.transformations ?? [], frames, { interpolate: (text) => text }));
  const source = { defaults: defaultsOf(panel), overrides: panel.fieldConfig.overrides.map(hidden) };
  const data = applyFieldOverrides({
    data: changed, fieldConfig: source, theme, timeZone: 'utc', replaceVariables: (text) => text,
    fieldConfigRegistry: registryOf(panel.type),
  });
  cacheFieldDisplayNames(data);
  return { data, source };
}

function defaultsOf({ type, fieldConfig: { defaults } }) {
  const color = { mode: type === 'timeseries' ? 'palette-classic' : 'thresholds' };
  const thresholds = { mode: 'absolute', steps: [{ color: 'green', value: -Infinity }] };
  return { color, thresholds, mappings: [], ...structuredClone(defaults), custom: { ...CUSTOM[type], ...defaults.custom } };
}

// Grafana brings what older boards say up to date.
const hidden = ({ matcher, properties }) => ({
  matcher,
  properties: properties.map(({ id, value }) => (id === 'custom.hidden' ? { id: 'custom.hideFrom', value: { viz: value } } : { id, value })),
});

function registryOf(type) {
  const registry = new FieldConfigOptionsRegistry();
  const item = (path, more) => ({
    id: path, path, name: path, editor: () => null, override: () => null, settings: {}, shouldApply: () => true,
    process: PROCESSORS[path] ?? identityOverrideProcessor, ...more,
  });
  STANDARD.forEach((path) => registry.register(item(path)));
  Object.keys(CUSTOM[type]).forEach((path) => registry.register(item(path, { id: `custom.${path}`, isCustom: true, process: identityOverrideProcessor })));
  return registry;
}
