// Renders assets/fonts: one greyscale glyph atlas per font, a-z and 0-9 at a fixed size, with advance widths in index.json.
// Usage: node scripts/fonts.mjs [scratch folder]. Fonts and opentype.js are installed there, so that the package itself needs none of them.
import { execFileSync } from 'node:child_process';
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join, resolve } from 'node:path';
import sharp from 'sharp';

/** Versions are pinned: the atlases, and with them every seeded picture, stay as they are. */
const FONTS = [
  { font: 'open-sans', version: '5.3.0', licence: 'OFL-1.1', weight: 600, credit: 'Open Sans, The Open Sans Project Authors' },
  { font: 'lora', version: '5.3.0', licence: 'OFL-1.1', weight: 600, credit: 'Lora, The Lora Project Authors' },
  {
    font: 'jetbrains-mono',
    version: '5.3.0',
    licence: 'OFL-1.1',
    weight: 600,
    credit: 'JetBrains Mono, The JetBrains Mono Project Authors',
  },
  { font: 'nunito', version: '5.3.0', licence: 'OFL-1.1', weight: 700, credit: 'Nunito, The Nunito Project Authors' },
  { font: 'roboto-slab', version: '5.3.0', licence: 'Apache-2.0', weight: 600, credit: 'Roboto Slab, Google', heldOut: true },
];
const GLYPHS = 'abcdefghijklmnopqrstuvwxyz0123456789';
/** A cell holds one glyph: baseline, ascenders (b) and descenders (g) fit with a margin on every side. */
const CELL = { width: 40, height: 40, left: 6, baseline: 29, fontSize: 30 };
const OPENTYPE = 'opentype.js@2.0.0';

const scratch = resolve(process.argv[2] ?? '.cache/drawings');
const folder = new URL('../assets/fonts/', import.meta.url);

mkdirSync(scratch, { recursive: true });
const missing = FONTS.filter(({ font }) => !existsSync(join(scratch, 'node_modules/@fontsource', font)));
if (missing.length > 0 || !existsSync(join(scratch, 'node_modules/opentype.js'))) {
  const fonts = missing.map(({ font, version }) => `@fontsource/${font}@${version}`);
  execFileSync('npm', ['install', '--silent', '--prefix', scratch, OPENTYPE, ...fonts]);
}
const require = createRequire(join(scratch, 'package.json'));
const opentype = require('opentype.js');

const index = { glyphs: GLYPHS, cell: CELL, fonts: [] };
for (const about of FONTS) {
  const { font: name, weight } = about;
  const file = readFileSync(join(scratch, `node_modules/@fontsource/${name}/files/${name}-latin-${weight}-normal.woff`));
  const font = opentype.parse(file.buffer.slice(file.byteOffset, file.byteOffset + file.byteLength));
  const paths = [...GLYPHS].map((glyph, i) => font.getPath(glyph, i * CELL.width + CELL.left, CELL.baseline, CELL.fontSize).toPathData(3));
  const width = GLYPHS.length * CELL.width;
  const svg = `<svg xmlns="http://www.w3.org/2000/svg" width="${width}" height="${CELL.height}"><rect width="100%" height="100%"/><path fill="#fff" d="${paths.join('')}"/></svg>`;
  const { size } = await sharp(Buffer.from(svg))
    .greyscale()
    .png({ compressionLevel: 9, effort: 10 })
    .toFile(new URL(`${name}.png`, folder).pathname);
  // Advance widths in atlas pixels; kerning is left out, as it is below a pixel at the sizes drawn.
  const advances = [...GLYPHS].map((glyph) => Math.round(font.getAdvanceWidth(glyph, CELL.fontSize) * 100) / 100);
  index.fonts.push({ ...about, advances });
  console.log(`${name}: ${GLYPHS.length} glyphs, ${(size / 1024).toFixed(1)} KiB`);
}
writeFileSync(new URL('index.json', folder), `${JSON.stringify(index)}\n`);
