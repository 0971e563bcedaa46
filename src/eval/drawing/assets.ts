/** Drawings and letters in memory: the atlases of assets/ decoded once, with smaller copies of every tile. */
import { existsSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import sharp from 'sharp';
import { AttentionPackError, assert } from '../../errors.ts';
import { SHAPES, shapeTile } from './shapes.ts';
import { WORDS } from './words.ts';

/** A drawn tile at several sizes, the largest first: premultiplied RGBA — each [size, size, 4]. */
export interface Tile {
  readonly sizes: readonly number[];
  readonly pixels: readonly Uint8Array[];
}

export interface Glyph {
  readonly tile: Tile;
  /** Width to move on by, in pixels of the largest size. */
  readonly advance: number;
}

/** A font: `left` and `baseline` are where a glyph's origin lies in its tile, `ascender` the height of a "b". */
export interface Font {
  readonly name: string;
  readonly glyphs: ReadonlyMap<string, Glyph>;
  readonly left: number;
  readonly baseline: number;
  readonly ascender: number;
}

interface DrawingIndex {
  readonly size: number;
  readonly columns: number;
  readonly styles: readonly { readonly style: string; readonly licence: string; readonly credit: string; readonly heldOut?: boolean }[];
  readonly icons: readonly string[];
  readonly names: readonly string[];
}

interface FontIndex {
  readonly glyphs: string;
  readonly cell: {
    readonly width: number;
    readonly height: number;
    readonly left: number;
    readonly baseline: number;
    readonly fontSize: number;
  };
  readonly fonts: readonly { readonly font: string; readonly heldOut?: boolean; readonly advances: readonly number[] }[];
}

const ASSETS = path.join(packageRoot(path.dirname(fileURLToPath(import.meta.url))), 'assets');
const drawings: DrawingIndex = readIndex('drawings');
const letters: FontIndex = readIndex('fonts');

/** Names of drawn concepts, in the order of their ids. */
export const CONCEPTS: readonly string[] = drawings.names;
/** Iconify names of the concepts, for credits. */
export const ICONS: readonly string[] = drawings.icons;
export const STYLES: readonly { readonly style: string; readonly licence: string; readonly credit: string }[] = drawings.styles;
export const FONTS: readonly string[] = letters.fonts.map(({ font }) => font);

/** Everything drawn has one id: first the concepts, then the shapes, then the words. */
export const THINGS: readonly string[] = [...CONCEPTS, ...SHAPES, ...WORDS];
export const FIRST_SHAPE: number = CONCEPTS.length;
export const FIRST_WORD: number = CONCEPTS.length + SHAPES.length;

/** Styles and fonts to draw with: those of training, or those never trained on. */
export type Split = 'train' | 'held-out';
const indicesOf = (list: readonly { readonly heldOut?: boolean }[], split: Split) =>
  list.flatMap(({ heldOut = false }, i) => (heldOut === (split === 'held-out') ? [i] : []));
export const stylesOf = (split: Split): readonly number[] => indicesOf(drawings.styles, split);
export const fontsOf = (split: Split): readonly number[] => indicesOf(letters.fonts, split);

/** What pictures are drawn from. Each style and font is decoded at its first use in a process; about 12 MB a style. */
export interface Assets {
  /** A drawing by concept and style, or a shape. */
  tile(thing: number, style: number): Tile;
  font(index: number): Font;
}

const loaded = new Map<Split, Promise<Assets>>();

/**
 * The drawings, shapes and fonts of one split.
 *
 * @throws AttentionPackError if the package's assets folder lacks a file.
 */
export function loadAssets(split: Split): Promise<Assets> {
  let assets = loaded.get(split);
  if (!assets) loaded.set(split, (assets = decodeAssets(split)));
  return assets;
}

async function decodeAssets(split: Split): Promise<Assets> {
  const styles = new Map(await Promise.all(stylesOf(split).map(async (style) => [style, await decodeStyle(style)] as const)));
  const fonts = new Map(await Promise.all(fontsOf(split).map(async (font) => [font, await decodeFont(font)] as const)));
  const shapes = SHAPES.map((shape) => withSmaller(shapeTile(shape, drawings.size), drawings.size));
  return {
    tile(thing, style) {
      const tile = thing < FIRST_SHAPE ? styles.get(style)?.[thing] : shapes[thing - FIRST_SHAPE];
      assert(tile, `thing ${thing} has no tile in style ${style} of split ${split}`);
      return tile;
    },
    font(index) {
      const font = fonts.get(index);
      assert(font, `font ${index} is not of split ${split}`);
      return font;
    },
  };
}

async function decodeStyle(style: number): Promise<readonly Tile[]> {
  const { size, columns, icons } = drawings;
  const file = path.join(ASSETS, 'drawings', `${drawings.styles[style]?.style}.webp`);
  const { data, info } = await sharp(file).ensureAlpha().raw().toBuffer({ resolveWithObject: true });
  return icons.map((_, concept) => {
    const left = (concept % columns) * size;
    const top = Math.floor(concept / columns) * size;
    const pixels = new Uint8Array(size * size * 4);
    for (let y = 0; y < size; y++) {
      for (let x = 0; x < size; x++) {
        const from = ((top + y) * info.width + left + x) * 4;
        const to = (y * size + x) * 4;
        const alpha = data[from + 3] as number;
        for (let c = 0; c < 3; c++) pixels[to + c] = Math.round(((data[from + c] as number) * alpha) / 255);
        pixels[to + 3] = alpha;
      }
    }
    return withSmaller(pixels, size);
  });
}

async function decodeFont(index: number): Promise<Font> {
  const { cell, glyphs } = letters;
  const { font, advances } = letters.fonts[index] as FontIndex['fonts'][number];
  const { data, info } = await sharp(path.join(ASSETS, 'fonts', `${font}.png`))
    .greyscale()
    .raw()
    .toBuffer({ resolveWithObject: true });
  assert(cell.width === cell.height, 'glyph cells are square');
  const tiles = [...glyphs].map((_, i) => {
    const pixels = new Uint8Array(cell.width * cell.height * 4);
    for (let y = 0; y < cell.height; y++) {
      for (let x = 0; x < cell.width; x++) {
        // White ink with alpha: a tint colours it.
        pixels.fill(data[y * info.width + i * cell.width + x] as number, (y * cell.width + x) * 4, (y * cell.width + x) * 4 + 4);
      }
    }
    return withSmaller(pixels, cell.width);
  });
  const b = tiles[glyphs.indexOf('b')] as Tile;
  return {
    name: font,
    glyphs: new Map([...glyphs].map((glyph, i) => [glyph, { tile: tiles[i] as Tile, advance: advances[i] as number }])),
    left: cell.left,
    baseline: cell.baseline,
    ascender: cell.baseline - firstInkedRow(b),
  };
}

function firstInkedRow(tile: Tile): number {
  const size = tile.sizes[0] as number;
  const pixels = tile.pixels[0] as Uint8Array;
  return Math.floor(pixels.findIndex((value) => value > 127) / (size * 4));
}

/** A tile with its copies of a half and a quarter, each pixel the mean of four: shrunk drawing does not alias. */
function withSmaller(pixels: Uint8Array, size: number): Tile {
  const tile = { sizes: [size], pixels: [pixels] };
  for (let level = 0; level < 2; level++) {
    const large = tile.pixels.at(-1) as Uint8Array;
    const width = tile.sizes.at(-1) as number;
    const half = width / 2;
    const small = new Uint8Array(half * half * 4);
    for (let y = 0; y < half; y++) {
      for (let x = 0; x < half; x++) {
        for (let c = 0; c < 4; c++) {
          const at = (2 * y * width + 2 * x) * 4 + c;
          const sum =
            (large[at] as number) + (large[at + 4] as number) + (large[at + width * 4] as number) + (large[at + width * 4 + 4] as number);
          small[(y * half + x) * 4 + c] = (sum + 2) >> 2;
        }
      }
    }
    tile.sizes.push(half);
    tile.pixels.push(small);
  }
  return tile;
}

function readIndex<T>(folder: string): T {
  const file = path.join(ASSETS, folder, 'index.json');
  if (!existsSync(file))
    throw new AttentionPackError(`${file} is missing; pictures are drawn from the package's assets folder: install attentionpack again`);
  return JSON.parse(readFileSync(file, 'utf8')) as T;
}

/** Root of this package, from the sources as from the build. */
function packageRoot(folder: string): string {
  return existsSync(path.join(folder, 'package.json')) ? folder : packageRoot(path.dirname(folder));
}
