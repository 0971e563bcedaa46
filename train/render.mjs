// Renders every concept in every style once: Iconify SVG → 128 × 128 RGBA, one flat file [concept, style, 128, 128, 4].
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join, resolve } from 'node:path';

const [scratch = '.train'] = process.argv.slice(2);
// Packages live in the scratch folder, so that the repository itself needs none of them.
const require = createRequire(join(resolve(scratch), 'package.json'));
const sharp = require('sharp');

const SIZE = 128;
const STYLES = ['twemoji', 'noto', 'fluent-emoji-flat', 'openmoji', 'emojione'];
const concepts = JSON.parse(readFileSync(new URL('./concepts.json', import.meta.url), 'utf8'));

const sets = STYLES.map((style) => require(`@iconify-json/${style}/icons.json`));
const icons = Object.keys(concepts);
const sprites = Buffer.alloc(icons.length * STYLES.length * SIZE * SIZE * 4);

let at = 0;
for (const icon of icons) {
  for (const set of sets) {
    const pixels = await sharp(Buffer.from(svg(set, icon)), { density: 300 })
      .resize(SIZE, SIZE, { fit: 'contain', background: { r: 0, g: 0, b: 0, alpha: 0 } })
      .ensureAlpha()
      .raw()
      .toBuffer();
    pixels.copy(sprites, at);
    at += pixels.length;
  }
}

mkdirSync(scratch, { recursive: true });
writeFileSync(join(scratch, 'sprites.bin'), sprites);
writeFileSync(join(scratch, 'sprites.json'), JSON.stringify({ size: SIZE, styles: STYLES, icons, names: Object.values(concepts) }));
console.log(`${icons.length} concepts × ${STYLES.length} styles, ${(sprites.length / 2 ** 20).toFixed(0)} MiB`);

/** The icon's SVG document; an alias points at its parent and inherits the drawing. */
function svg(set, name) {
  const icon = set.icons[name] ?? set.icons[set.aliases?.[name]?.parent];
  if (!icon) throw new Error(`${set.prefix} has no icon "${name}"; remove it from concepts.json`);
  const width = icon.width ?? set.width ?? 16;
  const height = icon.height ?? set.height ?? 16;
  return `<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" width="${width}" height="${height}" viewBox="${icon.left ?? 0} ${icon.top ?? 0} ${width} ${height}">${icon.body}</svg>`;
}
