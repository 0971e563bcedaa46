/** Draws a scene: background, drawings, shapes and words, then one jitter of colour over all. */
import { type Assets, FIRST_WORD, type Font, THINGS, type Tile } from './assets.ts';
import { seeded } from './random.ts';
import { COLOURS, type Item, type Scene } from './scene.ts';

/** Side of the patches that labels are given for, in pixels. */
export const PATCH = 8;

export interface Picture {
  /** — [height, width, 3]. */
  readonly pixels: Uint8Array;
  /** The thing whose ink (for words: whose row of letters) covers the middle of each patch, -1 for none — [height / 8, width / 8]. */
  readonly labels: Int16Array;
}

/** A picture while it is drawn: colours 0 … 255 — [height, width, 3], and the thing on top of each pixel — [height, width]. */
interface Canvas {
  readonly width: number;
  readonly height: number;
  readonly colours: Float32Array;
  readonly owners: Int16Array;
}

/** The same scene always gives the same bytes. Width and height are multiples of 8. */
export function render(scene: Scene, assets: Assets): Picture {
  const { width, height } = scene;
  const canvas = { width, height, colours: new Float32Array(width * height * 3), owners: new Int16Array(width * height).fill(-1) };
  const random = seeded(scene.seed);
  drawBackground(canvas, scene, random);
  for (const item of scene.items) {
    if (item.thing >= FIRST_WORD) drawWord(canvas, item, assets.font(item.style));
    else drawTile(canvas, item, assets.tile(item.thing, item.style));
  }
  return { pixels: jittered(canvas, random), labels: patchLabels(canvas) };
}

type Draws = ReturnType<typeof seeded>;

/** The named colour, shifted a little, plain or with a gradient, soft noise or stripes. */
function drawBackground(canvas: Canvas, scene: Scene, random: Draws): void {
  const { width, height, colours } = canvas;
  const base = COLOURS[scene.colour].map((value) => value + random.uniform(-13, 13)) as [number, number, number];
  const pattern = random.below(4);
  const turn = random.uniform(0, 2 * Math.PI);
  const [alongX, alongY] = [(2 * Math.cos(turn)) / width, (2 * Math.sin(turn)) / height];
  const frequency = random.uniform(6, 20);
  const contrast = random.uniform(-56, 56);
  const noise = pattern === 2 ? Float32Array.from({ length: 81 }, () => random.uniform(-40, 40)) : undefined;
  const [red, green, blue] = base;
  for (let y = 0, at = 0; y < height; y++) {
    for (let x = 0; x < width; x++) {
      let lift = 0;
      if (pattern === 1 || pattern === 3) {
        const along = (x + 0.5 - width / 2) * alongX + (y + 0.5 - height / 2) * alongY;
        if (pattern === 1) lift = along * 40;
        else if (Math.sin(along * frequency) > 0.6) lift = contrast;
      } else if (noise) {
        lift = between(noise, (x / width) * 8, (y / height) * 8);
      }
      colours[at++] = clamp(red + lift);
      colours[at++] = clamp(green + lift);
      colours[at++] = clamp(blue + lift);
    }
  }
}

/** Bilinear value of a grid of 9 x 9. */
function between(grid: Float32Array, x: number, y: number): number {
  const column = Math.floor(x);
  const row = Math.floor(y);
  const at = row * 9 + column;
  const right = x - column;
  const upper = (grid[at] as number) * (1 - right) + (grid[at + 1] as number) * right;
  const lower = (grid[at + 9] as number) * (1 - right) + (grid[at + 10] as number) * right;
  return upper + (lower - upper) * (y - row);
}

function drawTile(canvas: Canvas, item: Item, tile: Tile): void {
  blend(canvas, tile, { ...item, angle: ((item.angle ?? 0) * Math.PI) / 180, owner: item.thing });
}

function drawWord(canvas: Canvas, item: Item, font: Font): void {
  const scale = item.size / font.ascender;
  const cell = (font.glyphs.get('a') as { tile: Tile }).tile.sizes[0] as number;
  let x = item.x;
  for (const letter of THINGS[item.thing] as string) {
    const glyph = font.glyphs.get(letter);
    if (!glyph) continue;
    const centre = { x: x + (cell / 2 - font.left) * scale, y: item.y + (cell / 2 - font.baseline) * scale };
    blend(canvas, glyph.tile, { ...centre, size: cell * scale, angle: 0, tint: item.tint, owner: -1 });
    x += glyph.advance * scale;
  }
  // A word owns its whole row of letters: strokes are too thin to cover the middle of a patch.
  const top = Math.max(0, Math.round(item.y - item.size));
  const bottom = Math.min(canvas.height, Math.round(item.y));
  for (let y = top; y < bottom; y++) {
    canvas.owners.fill(
      item.thing,
      y * canvas.width + Math.max(0, Math.round(item.x)),
      y * canvas.width + Math.min(canvas.width, Math.round(x)),
    );
  }
}

/** Width of a word in pixels at a height of its "b". */
export function wordWidth(word: string, font: Font, size: number): number {
  let width = 0;
  for (const letter of word) width += font.glyphs.get(letter)?.advance ?? 0;
  return (width * size) / font.ascender;
}

interface Blend {
  readonly x: number;
  readonly y: number;
  readonly size: number;
  /** In radians. */
  readonly angle: number;
  readonly tint?: readonly [number, number, number];
  /** Thing that takes the pixels covered at least by half; -1 to leave them. */
  readonly owner: number;
}

/** Lays a tile over the canvas, turned about its centre, read bilinearly from the copy nearest in size. */
function blend(canvas: Canvas, tile: Tile, { x: centreX, y: centreY, size, angle, tint, owner }: Blend): void {
  const level = tile.sizes.findLastIndex((side, i) => i === 0 || side * Math.SQRT2 >= size);
  const side = tile.sizes[level] as number;
  const source = tile.pixels[level] as Uint8Array;
  const { width, height, colours, owners } = canvas;
  const cos = (Math.cos(angle) * side) / size;
  const sin = (Math.sin(angle) * side) / size;
  const reach = ((Math.abs(Math.cos(angle)) + Math.abs(Math.sin(angle))) * size) / 2 + 1;
  const [red, green, blue] = tint ?? [255, 255, 255];
  const [redShare, greenShare, blueShare] = [red / 255, green / 255, blue / 255];
  const left = Math.max(0, Math.floor(centreX - reach));
  const right = Math.min(width, Math.ceil(centreX + reach));
  const bottom = Math.min(height, Math.ceil(centreY + reach));
  for (let y = Math.max(0, Math.floor(centreY - reach)); y < bottom; y++) {
    const down = y + 0.5 - centreY;
    for (let x = left; x < right; x++) {
      const across = x + 0.5 - centreX;
      const u = cos * across + sin * down + side / 2 - 0.5;
      const v = cos * down - sin * across + side / 2 - 0.5;
      if (u <= -1 || v <= -1 || u >= side || v >= side) continue;
      // 1. The four pixels around (u, v), those outside being empty. Plain variables: this loop is most of the time a picture takes.
      const column = Math.floor(u);
      const row = Math.floor(v);
      const fx = u - column;
      const fy = v - row;
      const isLeft = column >= 0;
      const isRight = column + 1 < side;
      const isUpper = row >= 0;
      const isLower = row + 1 < side;
      const at = (row * side + column) * 4;
      const below = at + side * 4;
      const w00 = isUpper && isLeft ? (1 - fx) * (1 - fy) : 0;
      const w01 = isUpper && isRight ? fx * (1 - fy) : 0;
      const w10 = isLower && isLeft ? (1 - fx) * fy : 0;
      const w11 = isLower && isRight ? fx * fy : 0;
      // Outside, any pixel will do: its weight is 0.
      const i00 = w00 > 0 ? at : 0;
      const i01 = w01 > 0 ? at + 4 : 0;
      const i10 = w10 > 0 ? below : 0;
      const i11 = w11 > 0 ? below + 4 : 0;
      const a = w00 * byte(source, i00 + 3) + w01 * byte(source, i01 + 3) + w10 * byte(source, i10 + 3) + w11 * byte(source, i11 + 3);
      if (a < 1) continue;
      const r = w00 * byte(source, i00) + w01 * byte(source, i01) + w10 * byte(source, i10) + w11 * byte(source, i11);
      const g = w00 * byte(source, i00 + 1) + w01 * byte(source, i01 + 1) + w10 * byte(source, i10 + 1) + w11 * byte(source, i11 + 1);
      const b = w00 * byte(source, i00 + 2) + w01 * byte(source, i01 + 2) + w10 * byte(source, i10 + 2) + w11 * byte(source, i11 + 2);
      // 2. Over what is there.
      const pixel = y * width + x;
      const rest = 1 - a / 255;
      colours[pixel * 3] = r * redShare + (colours[pixel * 3] as number) * rest;
      colours[pixel * 3 + 1] = g * greenShare + (colours[pixel * 3 + 1] as number) * rest;
      colours[pixel * 3 + 2] = b * blueShare + (colours[pixel * 3 + 2] as number) * rest;
      if (owner >= 0 && a >= 128) owners[pixel] = owner;
    }
  }
}

/** Jitters saturation, contrast and brightness of the whole picture — [height, width, 3]. */
function jittered({ colours }: Canvas, random: Draws): Uint8Array {
  const saturation = random.uniform(0.8, 1.2);
  const contrast = random.uniform(0.85, 1.1);
  const lift = 128 * (1 - contrast) + random.uniform(-15, 15);
  const pixels = new Uint8ClampedArray(colours.length);
  for (let i = 0; i < colours.length; i += 3) {
    const r = colours[i] as number;
    const g = colours[i + 1] as number;
    const b = colours[i + 2] as number;
    const grey = ((r + g + b) / 3) * (1 - saturation);
    pixels[i] = (grey + r * saturation) * contrast + lift;
    pixels[i + 1] = (grey + g * saturation) * contrast + lift;
    pixels[i + 2] = (grey + b * saturation) * contrast + lift;
  }
  return new Uint8Array(pixels.buffer);
}

/** The thing with most of the middle 4 x 4 pixels of each patch, if at least a quarter of them are its own. */
function patchLabels({ width, height, owners }: Canvas): Int16Array {
  const labels = new Int16Array((height / PATCH) * (width / PATCH)).fill(-1);
  for (let patch = 0; patch < labels.length; patch++) {
    const top = Math.floor(patch / (width / PATCH)) * PATCH + 2;
    const left = (patch % (width / PATCH)) * PATCH + 2;
    // Sixteen pixels seldom belong to more than two things: the most frequent is found by comparing each with all.
    let most = 3;
    for (let i = 0; i < 16; i++) {
      const owner = owners[(top + (i >> 2)) * width + left + (i & 3)] as number;
      if (owner < 0 || owner === labels[patch]) continue;
      let count = 0;
      for (let j = i; j < 16; j++) if (owners[(top + (j >> 2)) * width + left + (j & 3)] === owner) count++;
      if (count > most) [most, labels[patch]] = [count, owner];
    }
  }
  return labels;
}

const byte = (bytes: Uint8Array, at: number) => bytes[at] as number;

const clamp = (value: number) => Math.min(255, Math.max(0, value));
