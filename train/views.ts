/**
 * Streams pictures for training the tower, as fast as they are read:
 *
 *   npx tsx train/views.ts --seed 1 --batch 128 --sizes 64x64,96x64 --mix single=5,places=2,count=1.5,text=3 [--limit N]
 *                          [--styles train|held-out] [--scenes out.jsonl]
 *   npx tsx train/views.ts --vocabulary
 *
 * stdout holds batches until the pipe closes or N batches are written: the length of a header (uint32, little-endian), the header
 * {"count", "height", "width"} as JSON, then pixels — uint8 [count, height, width, 3], patch labels (id of the thing in the middle of each
 * 8 x 8 patch, -1 for none) — int16 [count, height / 8, width / 8], and globals — int16 [count, 4]: kind, background colour, count of copies
 * (0 unless kind is count), concept (-1 unless kind is single). All pictures of a batch have one size, drawn from --sizes; widths come
 * first (96x64 is wider than high). --scenes also writes one JSON line for each picture, in order.
 */
import { createWriteStream } from 'node:fs';
import { once } from 'node:events';
import type { Writable } from 'node:stream';
import { CONCEPTS, FIRST_SHAPE, FIRST_WORD, loadAssets, THINGS, type Split } from '../src/eval/drawing/assets.ts';
import { mixSeed, seeded } from '../src/eval/drawing/random.ts';
import { PATCH, render } from '../src/eval/drawing/render.ts';
import { SceneSampler } from '../src/eval/drawing/sample.ts';
import { COLOUR_NAMES, KINDS, PLACES, type Kind, type Scene } from '../src/eval/drawing/scene.ts';
import { parseArgs } from 'node:util';

const { values: flags } = parseArgs({
  options: {
    seed: { type: 'string', default: '1' },
    batch: { type: 'string', default: '128' },
    sizes: { type: 'string', default: '64x64' },
    mix: { type: 'string', default: 'single=5,places=2,count=1.5,text=3' },
    limit: { type: 'string', default: 'Infinity' },
    styles: { type: 'string', default: 'train' },
    scenes: { type: 'string' },
    vocabulary: { type: 'boolean', default: false },
  },
});

async function stream(): Promise<void> {
  const split = flags.styles as Split;
  const sizes = flags.sizes.split(',').map((size) => size.split('x').map(Number) as [number, number]);
  const mix = flags.mix.split(',').map((part) => [part.split('=')[0] as Kind, Number(part.split('=')[1])] as const);
  check(split, sizes, mix);
  const assets = await loadAssets(split);
  const sampler = new SceneSampler(assets, split);
  const random = seeded(mixSeed('views', split, flags.seed));
  const scenes = flags.scenes ? createWriteStream(flags.scenes) : undefined;
  const start = performance.now();
  let pictures = 0;
  for (let batch = 0; batch < Number(flags.limit); batch++) {
    const [width, height] = random.pick(sizes);
    const count = Number(flags.batch);
    const body = new Body(count, width, height);
    let lines = '';
    for (let i = 0; i < count; i++) {
      const scene = sampler.sample(weighted(mix, random.uniform(0, 1)), width, height, random);
      body.put(i, scene, render(scene, assets));
      if (scenes) lines += `${JSON.stringify(scene)}\n`;
    }
    if (scenes) await write(scenes, lines);
    const header = Buffer.from(JSON.stringify({ count, height, width }));
    const length = Buffer.alloc(4);
    length.writeUInt32LE(header.length);
    await write(process.stdout, Buffer.concat([length, header, body.bytes]));
    pictures += count;
  }
  scenes?.end();
  if (scenes) await once(scenes, 'finish');
  const seconds = (performance.now() - start) / 1000;
  console.error(`${pictures} pictures in ${seconds.toFixed(1)} s, ${Math.round(pictures / seconds)} a second`);
}

/** The arrays of one batch, one behind the other in one buffer. */
class Body {
  readonly bytes: Buffer;
  readonly #pixels: Uint8Array;
  readonly #labels: Int16Array;
  readonly #globals: Int16Array;

  constructor(count: number, width: number, height: number) {
    const pixelBytes = count * width * height * 3;
    const labels = count * (width / PATCH) * (height / PATCH);
    const buffer = new ArrayBuffer(pixelBytes + (labels + count * 4) * 2);
    this.bytes = Buffer.from(buffer);
    this.#pixels = new Uint8Array(buffer, 0, pixelBytes);
    // Little-endian like every machine Node.js runs on.
    this.#labels = new Int16Array(buffer, pixelBytes, labels);
    this.#globals = new Int16Array(buffer, pixelBytes + labels * 2, count * 4);
  }

  put(index: number, scene: Scene, { pixels, labels }: ReturnType<typeof render>): void {
    this.#pixels.set(pixels, index * pixels.length);
    this.#labels.set(labels, index * labels.length);
    const { kind, colour, items } = scene;
    const concept = kind === 'single' ? (items[0]?.thing ?? -1) : -1;
    this.#globals.set([KINDS.indexOf(kind), COLOUR_NAMES.indexOf(colour), kind === 'count' ? items.length : 0, concept], index * 4);
  }
}

/** Waits while the reader is behind. */
async function write(to: Writable, chunk: string | Buffer): Promise<void> {
  if (!to.write(chunk)) await once(to, 'drain');
}

function weighted<T>(weights: readonly (readonly [T, number])[], fraction: number): T {
  let rest = fraction * weights.reduce((sum, [, weight]) => sum + weight, 0);
  for (const [value, weight] of weights) {
    if ((rest -= weight) < 0) return value;
  }
  return (weights.at(-1) as readonly [T, number])[0];
}

function check(split: string, sizes: readonly (readonly number[])[], mix: readonly (readonly [string, number])[]): void {
  const wrong =
    (split !== 'train' && split !== 'held-out' && `--styles ${split}: use train or held-out`) ||
    sizes.map((size) => (size.length !== 2 || size.some((side) => !(side >= 64 && side <= 320 && side % 16 === 0)) ? `--sizes ${size.join('x')}: sides are multiples of 16 from 64 to 320` : '')).find(Boolean) ||
    mix.map(([kind, weight]) => (!(KINDS as readonly string[]).includes(kind) || !(weight >= 0) ? `--mix ${kind}=${weight}: kinds are ${KINDS.join(', ')}` : '')).find(Boolean);
  if (wrong) {
    console.error(wrong);
    process.exit(2);
  }
}

if (flags.vocabulary) {
  const vocabulary = { things: THINGS, concepts: CONCEPTS.length, shapes: [FIRST_SHAPE, FIRST_WORD], words: [FIRST_WORD, THINGS.length] };
  console.log(JSON.stringify({ ...vocabulary, colours: COLOUR_NAMES, kinds: KINDS, places: PLACES, patch: PATCH }));
} else {
  // A reader that has enough closes the pipe: that is the usual end.
  process.stdout.on('error', (error: NodeJS.ErrnoException) => process.exit(error.code === 'EPIPE' ? 0 : 1));
  await stream();
}
