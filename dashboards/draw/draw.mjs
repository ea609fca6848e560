// Draws boards: `node draw.mjs ANSWERS PICTURES`, of which the first folder has what the servers answered.
import { execFileSync } from 'node:child_process';
import { cpSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { build } from 'esbuild';

const BOARDS = { 'conntally-live.json': 'live.png', 'conntally-archive.json': 'archive.png' };
const WIDTH = 1400;
const BROWSER = process.env.CHROMIUM ?? 'chromium';

const [answers, pictures] = process.argv.slice(2).map((folder) => resolve(folder));
const scratch = join(answers, 'pages');
mkdirSync(scratch, { recursive: true });
await build({
  entryPoints: [join(import.meta.dirname, 'src/page.jsx')],
  outfile: join(scratch, 'page.js'),
  bundle: true,
  format: 'iife',
  jsx: 'automatic',
  define: { 'process.env.NODE_ENV': '"production"', global: 'window' },
  loader: { '.woff2': 'dataurl', '.woff': 'dataurl', '.ttf': 'dataurl', '.svg': 'dataurl', '.png': 'dataurl' },
  logLevel: 'error',
});
// Where Grafana's components look for icons.
cpSync(join(import.meta.dirname, 'node_modules/@grafana/ui/dist/public'), join(scratch, 'public/build'), { recursive: true });
for (const [file, picture] of Object.entries(BOARDS)) {
  const told = JSON.parse(readFileSync(join(answers, file)));
  const below = Math.max(...told.board.panels.map(({ gridPos: { y, h } }) => y + h));
  // The board is drawn as it was when the hour ended: ages are told from then on.
  const page = `<!doctype html><meta charset="utf-8"><link rel="stylesheet" href="page.css">
<script>window.TOLD = ${JSON.stringify(told).replaceAll('<', '\\u003c')}; Date.now = () => window.TOLD.to + 3000;</script>
<body style="margin: 0; background: #f4f5f5"><div id="board"></div><script src="page.js"></script>`;
  const html = join(scratch, file.replace('.json', '.html'));
  writeFileSync(html, page);
  execFileSync(BROWSER, [
    '--headless', '--no-sandbox', '--disable-gpu', '--hide-scrollbars', '--allow-file-access-from-files', '--virtual-time-budget=10000',
    `--user-data-dir=${join(scratch, 'profile')}`, `--window-size=${WIDTH},${below * 38 + 8}`,
    `--screenshot=${join(pictures, picture)}`, `file://${html}`,
  ], { stdio: ['ignore', 'ignore', 'pipe'] });
}
