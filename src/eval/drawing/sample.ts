/** Draws scenes at random: one drawing, drawings in quadrants, copies to count, words to read. */

import { UNCOUNTED } from '../questions/names.ts';
import { type Assets, CONCEPTS, FIRST_SHAPE, FIRST_WORD, fontsOf, type Split, stylesOf, type Tile } from './assets.ts';
import type { Random } from './random.ts';
import { wordWidth } from './render.ts';
import { COLOUR_NAMES, COLOURS, type Colour, type Item, type Kind, type Rgb, type Scene } from './scene.ts';
import { SHAPES } from './shapes.ts';
import { WORDS } from './words.ts';

/** Draws scenes of any kind from one stream of random numbers. */
export class SceneSampler {
  readonly #assets: Assets;
  readonly #split: Split;
  /** Whether a tile can be told from a background colour, by thing, style and colour; found when first asked. */
  readonly #visible = new Map<string, boolean>();

  constructor(assets: Assets, split: Split) {
    this.#assets = assets;
    this.#split = split;
  }

  sample(kind: Kind, width: number, height: number, random: Random): Scene {
    const seed = random.seed();
    const frame = { kind, width, height, seed };
    if (kind === 'text') return { ...frame, ...this.#text(frame, random) };
    if (kind === 'count') return { ...frame, ...this.#count(frame, random) };
    if (kind === 'places') return { ...frame, ...this.#places(frame, random) };
    return { ...frame, ...this.#single(frame, random) };
  }

  #single({ width, height }: Frame, random: Random): Content {
    const size = random.uniform(0.55, 0.95) * Math.min(width, height);
    const [roomX, roomY] = [width - size, height - size];
    const { colour, things, style } = this.#drawings(1, random);
    // A twentieth of the side may lie outside, as in a picture cut carelessly.
    const x = width / 2 + (random.uniform(-0.5, 0.5) * roomX + random.uniform(-0.025, 0.025) * size);
    const y = height / 2 + (random.uniform(-0.5, 0.5) * roomY + random.uniform(-0.025, 0.025) * size);
    return { colour, items: [place(things[0] as number, x, y, size, random.uniform(-20, 20), style)] };
  }

  #places({ width, height }: Frame, random: Random): Content {
    const number = 2 + random.below(3);
    const { colour, things, style } = this.#drawings(number, random);
    const quadrants = random.sample([0, 1, 2, 3], number).sort();
    const items = quadrants.map((quadrant, i) => {
      const size = random.uniform(0.75, 1) * Math.min(width / 2, height / 2);
      const x = width * (0.25 + 0.5 * (quadrant % 2)) + random.uniform(-0.5, 0.5) * (width / 2 - size);
      const y = height * (quadrant < 2 ? 0.25 : 0.75) + random.uniform(-0.5, 0.5) * (height / 2 - size);
      return place(things[i] as number, x, y, size, random.uniform(-12, 12), style);
    });
    return { colour, items };
  }

  #count({ width, height }: Frame, random: Random): Content {
    const number = 1 + random.below(9);
    const unit = Math.min(width, height) / 64;
    const isShape = random.chance(0.65);
    let tint: Colour | undefined;
    let { colour, things, style } = this.#drawings(1, random, (name) => !UNCOUNTED.has(name));
    if (isShape) {
      things = [FIRST_SHAPE + random.below(SHAPES.length)];
      colour = random.pick(COLOUR_NAMES);
      tint = random.pick(COLOUR_NAMES.filter((name) => distance(COLOURS[name], COLOURS[colour]) > 90));
    }
    // Beyond this share of the shorter side squared, spots for all are seldom found at random.
    const largest = Math.min(18, 64 * Math.sqrt(0.42 / number));
    const size = random.uniform(11, largest) * unit;
    // Copies stand apart by their diagonal when turned, so that no two touch; a place too full is drawn anew, then smaller.
    const apart = size * 1.16;
    let spots: (readonly [number, number])[] = [];
    for (let attempt = 0; spots.length < number; attempt++)
      spots = scatter(number, width, height, size, Math.max(size * 1.04, apart * 0.98 ** attempt), random);
    const items = spots.map(([x, y]) => ({
      ...place(things[0] as number, x, y, size * random.uniform(0.93, 1), random.uniform(-9, 9), style),
      ...(tint && { tint: COLOURS[tint] }),
    }));
    return { colour, items };
  }

  #text({ width, height }: Frame, random: Random): Content {
    const number = 1 + random.below(3);
    const style = random.pick(fontsOf(this.#split));
    const font = this.#assets.font(style);
    const colour = random.pick(COLOUR_NAMES);
    const tint = inkOn(colour, random);
    const unit = (Math.min(width, height) / 64) * random.uniform(0.85, 1);
    const wanted = Math.max(9, random.uniform(9, 14) * unit);
    const margin = 2;
    const row = height / number;
    const items = random.sample(WORDS, number).map((word, i): Item => {
      const size = Math.min(wanted, (wanted * (width - 2 * margin)) / wordWidth(word, font, wanted), row * 0.72);
      const x = margin + random.uniform(0, 1) * Math.max(0, width - 2 * margin - wordWidth(word, font, size));
      // The middle of a row lies at half the height of its letters; descenders need a quarter of it below.
      const spare = Math.max(0, row - size * 1.35);
      const y = row * i + size * 1.05 + random.uniform(0.1, 0.9) * spare;
      return { thing: FIRST_WORD + WORDS.indexOf(word), x: tenth(x), y: tenth(y), size: tenth(size), style, tint };
    });
    return { colour, items };
  }

  /** Different concepts in one style on a background that each of them can be told from. */
  #drawings(
    number: number,
    random: Random,
    fits: (name: string) => boolean = () => true,
  ): { colour: Colour; things: number[]; style: number } {
    const style = random.pick(stylesOf(this.#split));
    const colour = random.pick(COLOUR_NAMES);
    const things = new Set<number>();
    while (things.size < number) {
      const thing = random.below(CONCEPTS.length);
      if (fits(CONCEPTS[thing] as string) && this.#isVisible(thing, style, colour)) things.add(thing);
    }
    return { colour, things: [...things], style };
  }

  #isVisible(thing: number, style: number, colour: Colour): boolean {
    const key = `${thing}/${style}/${colour}`;
    let visible = this.#visible.get(key);
    if (visible === undefined) this.#visible.set(key, (visible = contrasts(this.#assets.tile(thing, style), COLOURS[colour])));
    return visible;
  }
}

type Frame = Pick<Scene, 'kind' | 'width' | 'height' | 'seed'>;
type Content = Pick<Scene, 'colour' | 'items'>;

const tenth = (value: number) => Math.round(value * 10) / 10;

function place(thing: number, x: number, y: number, size: number, angle: number, style: number): Item {
  return { thing, x: tenth(x), y: tenth(y), size: tenth(size), angle: Math.round(angle), style };
}

/** Centres at least `apart` from each other and wholly inside; fewer than asked if they do not fit. */
function scatter(
  number: number,
  width: number,
  height: number,
  size: number,
  apart: number,
  random: Random,
): (readonly [number, number])[] {
  const spots: (readonly [number, number])[] = [];
  for (let attempt = 0; attempt < 40 * number && spots.length < number; attempt++) {
    const spot = [random.uniform(size / 2 + 0.5, width - size / 2 - 0.5), random.uniform(size / 2 + 0.5, height - size / 2 - 0.5)] as const;
    if (spots.every(([x, y]) => Math.max(Math.abs(x - spot[0]), Math.abs(y - spot[1])) >= apart)) spots.push(spot);
  }
  return spots;
}

/** A colour for letters: dark on light grounds, light on dark ones, or a named colour far enough in brightness. */
function inkOn(ground: Colour, random: Random): Rgb {
  const far = Object.values(COLOURS).filter((colour) => Math.abs(brightness(colour) - brightness(COLOURS[ground])) > 95);
  return random.pick(far).map((value) => Math.round(Math.min(255, Math.max(0, value + random.uniform(-10, 10))))) as unknown as Rgb;
}

const brightness = ([r, g, b]: Rgb) => 0.3 * r + 0.59 * g + 0.11 * b;

const distance = (a: Rgb, b: Rgb) => Math.hypot(a[0] - b[0], a[1] - b[1], a[2] - b[2]);

/** True if at least a third of a tile's ink is far from a colour: a black spade on black could not be named. */
function contrasts(tile: Tile, colour: Rgb): boolean {
  const pixels = tile.pixels.at(-1) as Uint8Array;
  let [inked, far] = [0, 0];
  for (let i = 0; i < pixels.length; i += 4) {
    const alpha = pixels[i + 3] as number;
    if (alpha < 96) continue;
    inked++;
    const ink = [0, 1, 2].map((c) => ((pixels[i + c] as number) * 255) / alpha) as unknown as Rgb;
    if (distance(ink, colour) > 75) far++;
  }
  return far * 3 >= inked;
}
