// Renders assets/drawings: one sprite atlas per drawing style, 64 x 64 pixels a concept, from the Iconify emoji sets.
// Usage: node scripts/drawings.mjs [scratch folder]. The sets are installed there, so that the package itself needs none of them.
import { execFileSync } from 'node:child_process';
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join, resolve } from 'node:path';
import sharp from 'sharp';

/** Versions are pinned: the atlases, and with them every seeded picture, stay as they are. */
const STYLES = [
  { style: 'twemoji', version: '1.2.5', licence: 'CC-BY-4.0', credit: 'Twemoji, X Corp. and contributors' },
  { style: 'noto', version: '1.2.9', licence: 'Apache-2.0', credit: 'Noto Emoji, Google' },
  { style: 'fluent-emoji-flat', version: '1.2.6', licence: 'MIT', credit: 'Fluent Emoji, Microsoft' },
  { style: 'openmoji', version: '1.2.29', licence: 'CC-BY-SA-4.0', credit: 'OpenMoji, HfG Schwaebisch Gmuend and contributors' },
  { style: 'emojione', version: '1.2.3', licence: 'CC-BY-4.0', credit: 'Emoji One 2, Ranks.com', heldOut: true },
];
const SIZE = 64;
const COLUMNS = 32;

const scratch = resolve(process.argv[2] ?? '.cache/drawings');
const folder = new URL('../assets/drawings/', import.meta.url);
const concepts = JSON.parse(readFileSync(new URL('concepts.json', folder), 'utf8'));
const icons = Object.keys(concepts);

mkdirSync(scratch, { recursive: true });
const missing = STYLES.filter(({ style }) => !existsSync(join(scratch, 'node_modules/@iconify-json', style)));
if (missing.length > 0) {
  execFileSync('npm', [
    'install',
    '--silent',
    '--prefix',
    scratch,
    ...missing.map(({ style, version }) => `@iconify-json/${style}@${version}`),
  ]);
}
const require = createRequire(join(scratch, 'package.json'));

for (const { style } of STYLES) {
  const set = require(`@iconify-json/${style}/icons.json`);
  const tiles = await Promise.all(
    icons.map(async (icon, i) => ({
      input: await sharp(Buffer.from(svg(set, icon)), { density: 300 })
        // Sets leave margins of different widths: without them a size means the same in every style.
        .trim({ threshold: 1 })
        .resize(SIZE, SIZE, { fit: 'contain', background: '#00000000' })
        .png()
        .toBuffer(),
      left: (i % COLUMNS) * SIZE,
      top: Math.floor(i / COLUMNS) * SIZE,
    })),
  );
  const rows = Math.ceil(icons.length / COLUMNS);
  const { size } = await sharp({ create: { width: COLUMNS * SIZE, height: rows * SIZE, channels: 4, background: '#00000000' } })
    .composite(tiles)
    .webp({ quality: 88, alphaQuality: 95, effort: 6 })
    .toFile(new URL(`${style}.webp`, folder).pathname);
  console.log(`${style}: ${icons.length} drawings, ${(size / 1024).toFixed(0)} KiB`);
}
writeFileSync(
  new URL('index.json', folder),
  `${JSON.stringify({ size: SIZE, columns: COLUMNS, styles: STYLES, icons, names: Object.values(concepts) }, null, 1)}\n`,
);

/** The icon's SVG document; an alias points at its parent and inherits the drawing. */
function svg(set, name) {
  const icon = set.icons[name] ?? set.icons[set.aliases?.[name]?.parent];
  if (!icon) throw new Error(`${set.prefix} has no icon "${name}"; remove it from concepts.json`);
  const width = icon.width ?? set.width ?? 16;
  const height = icon.height ?? set.height ?? 16;
  return `<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" width="${width}" height="${height}" viewBox="${icon.left ?? 0} ${icon.top ?? 0} ${width} ${height}">${icon.body}</svg>`;
}
