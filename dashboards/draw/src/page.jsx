// A board as Grafana lays it out, drawn once with its own components.
import '@fontsource/inter/400.css';
import '@fontsource/inter/500.css';
import { createTheme, dateTime, getFieldDisplayValues, ThemeContext } from '@grafana/data';
import { initPluginTranslations } from '@grafana/i18n';
import { BigValue, GlobalStyles, PanelChrome, TimeSeries } from '@grafana/ui';
import { TableNG } from '@grafana/ui/unstable';
import { createRoot } from 'react-dom/client';
import { fieldsOf } from './fields.js';
import { framesOf } from './frames.js';

const { board, answers, from, to } = window.TOLD;
const theme = createTheme({ colors: { mode: 'light' } });
const range = { from: dateTime(from), to: dateTime(to), raw: { from: 'now-1h', to: 'now' } };

// Pixels of a cell of the grid, and between cells.
const CELL = 30;
const GAP = 8;

const place = ({ x, y, w, h }) => {
  const column = (window.innerWidth - GAP) / 24;
  return { position: 'absolute', left: x * column + GAP, top: y * (CELL + GAP) + GAP, width: w * column - GAP, height: h * (CELL + GAP) - GAP };
};

function Panel({ panel, data, source }) {
  const { width, height } = place(panel.gridPos);
  return (
    <PanelChrome title={panel.title} description={panel.description || undefined} width={width} height={height} padding={panel.type === 'table' ? 'none' : 'md'}>
      {(width, height) => <Inner {...{ panel, data, source, width, height }} />}
    </PanelChrome>
  );
}

function Inner({ panel, data, source, width, height }) {
  const is_empty = data.every((frame) => frame.length === 0);
  if (panel.type === 'stat') {
    return <Stat {...{ panel, data, source, width, height }} />;
  }
  if (is_empty) {
    const style = { height, display: 'flex', alignItems: 'center', justifyContent: 'center', color: theme.colors.text.secondary };
    return <div style={style}>{panel.fieldConfig.defaults.noValue ?? 'No data'}</div>;
  }
  if (panel.type === 'table') {
    return <TableNG data={data[0]} width={width} height={height} cellHeight={panel.options.cellHeight} enableVirtualization={false} timeRange={range} structureRev={1} />;
  }
  return <TimeSeries frames={data} structureRev={1} width={width} height={height} timeRange={range} timeZone="utc" legend={panel.options.legend} options={panel.options} />;
}

function Stat({ panel, data, source, width, height }) {
  const { reduceOptions, colorMode, graphMode, justifyMode, textMode } = panel.options;
  const values = getFieldDisplayValues({ fieldConfig: source, reduceOptions, replaceVariables: (text) => text, theme, data, timeZone: 'utc' });
  const each = width / values.length;
  return values.map(({ display }, at) => (
    <div key={at} style={{ display: 'inline-block' }}>
      <BigValue value={display} {...{ colorMode, graphMode, justifyMode, textMode, theme }} width={each} height={height} count={values.length} />
    </div>
  ));
}

const Row = ({ panel }) => <div style={{ ...place(panel.gridPos), fontSize: 18, fontWeight: 500, lineHeight: `${CELL}px` }}>⌄ {panel.title}</div>;

async function prepared(panel) {
  if (panel.type === 'row') {
    return { panel };
  }
  const frames = panel.targets.flatMap((target, at) => framesOf(target, answers[panel.id][at]));
  return { panel, ...(await fieldsOf(panel, frames, theme)) };
}

async function draw() {
  await initPluginTranslations('grafana-ui');
  await Promise.all(['400', '500'].map((weight) => document.fonts.load(`${weight} 14px Inter`)));
  const panels = await Promise.all(board.panels.map(prepared));
  const shown = panels.map((one) =>
    one.panel.type === 'row' ? <Row key={one.panel.id} {...one} /> : <div key={one.panel.id} style={place(one.panel.gridPos)}><Panel {...one} /></div>
  );
  createRoot(document.getElementById('board')).render(<ThemeContext.Provider value={theme}><GlobalStyles />{shown}</ThemeContext.Provider>);
}

draw().catch((error) => { document.body.innerText = error.stack; });
