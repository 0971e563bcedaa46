// Renders every concept in every style once: Iconify SVG → 128 × 128 RGBA, one flat file [concept, style, 128, 128, 4].
// With a list of [icon, style] pairs as second argument it renders only those, at 512 × 512: [pair, 512, 512, 4].
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join, resolve } from 'node:path';

const [scratch = '.train', list] = process.argv.slice(2)
// Packages live in the scratch folder, so that the repository itself needs none of them.
const require = createRequire(join(resolve(scratch), 'package.json'))
const sharp = require('sharp')

const STYLES = ['twemoji', 'noto', 'fluent-emoji-flat', 'openmoji', 'emojione']
const sets = Object.fromEntries(STYLES.map(style => [style, require(`@iconify-json/${style}/icons.json`)]))

mkdirSync(scratch, { recursive: true })
if (list) {
  writeFileSync(list.replace(/json$/, 'bin'), await render(JSON.parse(readFileSync(list, 'utf8')), 512))
} else {
  const concepts = JSON.parse(readFileSync(new URL('./concepts.json', import.meta.url), 'utf8'))
  const icons = Object.keys(concepts)
  const sprites = await render(icons.flatMap(icon => STYLES.map(style => [icon, style])), 128)
  writeFileSync(join(scratch, 'sprites.bin'), sprites)
  writeFileSync(join(scratch, 'sprites.json'), JSON.stringify({ size: 128, styles: STYLES, icons, names: Object.values(concepts) }))
  console.log(`${icons.length} concepts × ${STYLES.length} styles, ${(sprites.length / 2 ** 20).toFixed(0)} MiB`)
}

/** Pixels of all pairs in order — [pair, size, size, 4]. */
async function render(pairs, size) {
  const rendered = []
  for (const [icon, style] of pairs) {
    rendered.push(
      await sharp(Buffer.from(svg(sets[style], icon)), { density: 300 })
        .resize(size, size, { fit: 'contain', background: { r: 0, g: 0, b: 0, alpha: 0 } })
        .ensureAlpha()
        .raw()
        .toBuffer(),
    )
  }
  return Buffer.concat(rendered)
}

/** The icon's SVG document; an alias points at its parent and inherits the drawing. */
function svg(set, name) {
  const icon = set.icons[name] ?? set.icons[set.aliases?.[name]?.parent];
  if (!icon) throw new Error(`${set.prefix} has no icon "${name}"; remove it from concepts.json`);
  const width = icon.width ?? set.width ?? 16;
  const height = icon.height ?? set.height ?? 16;
  return `<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" width="${width}" height="${height}" viewBox="${icon.left ?? 0} ${icon.top ?? 0} ${width} ${height}">${icon.body}</svg>`;
}
