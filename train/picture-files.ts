/**
 * Writes the pictures and questions that lie beside the embedded model: npx tsx train/picture-files.ts models/pack-mha
 *
 * `demo/`: eight pictures of several sizes and formats, one context; `eval/`: forty contexts of four small pictures, seven questions each.
 */
import { mkdirSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import sharp from 'sharp';
import { FONTS, FIRST_SHAPE, FIRST_WORD, ICONS, loadAssets, STYLES } from '../src/eval/drawing/assets.ts';
import { mixSeed, type Random, seeded } from '../src/eval/drawing/random.ts';
import { render } from '../src/eval/drawing/render.ts';
import { SceneSampler } from '../src/eval/drawing/sample.ts';
import type { Kind, Scene } from '../src/eval/drawing/scene.ts';
import { ask, type Asked, Contents, describe, exclusiveKeys, type QuestionType } from '../src/eval/questions/index.ts';

const SEED = 2026;
/** Side in pixels, kind and ending of the demo's pictures. */
const DEMO: readonly (readonly [side: number, kind: Kind, ending: 'png' | 'jpg'])[] = [
  [320, 'single', 'png'],
  [256, 'single', 'jpg'],
  [192, 'places', 'png'],
  [160, 'single', 'png'],
  [240, 'text', 'jpg'],
  [320, 'single', 'png'],
  [128, 'count', 'png'],
  [288, 'single', 'jpg'],
];
const DEMO_TYPES: readonly QuestionType[] = ['name', 'name', 'which', 'which', 'which', 'exists', 'exists', 'colour', 'place', 'text', 'count', 'choice', 'order'];
/** What the demo packs with unless told otherwise. */
const DEMO_PACKING = { preset: 'auto', basisPer: 'context' };

const EVAL_CONTEXTS = 40;
const EVAL_SIDE = 96;
const EVAL_KINDS: readonly Kind[] = ['single', 'single', 'single', 'places', 'count', 'text'];
const EVAL_TYPES: readonly QuestionType[] = ['name', 'which', 'exists', 'colour', 'text', 'choice', 'list'];

const assets = await loadAssets('train');
const sampler = new SceneSampler(assets, 'train');

async function writeDemo(folder: string): Promise<void> {
  mkdirSync(folder, { recursive: true });
  const random = seeded(mixSeed('demo', SEED));
  const scenes = apart(DEMO.map(([side, kind]) => () => sampler.sample(kind, side, side, random)));
  const files = DEMO.map(([, , ending], i) => `${String(i + 1).padStart(2, '0')}.${ending}`);
  await Promise.all(scenes.map((scene, i) => save(scene, path.join(folder, files[i] as string))));
  const images = scenes.map((scene, i) => ({ file: files[i], concept: describe(scene), background: scene.colour, attribution: credit(scene) }));
  const questions = askEach(DEMO_TYPES, new Contents(scenes), random);
  writeJson(path.join(folder, 'questions.json'), { seed: SEED, packing: DEMO_PACKING, images, context: images.length, questions });
}

async function writeEval(folder: string): Promise<void> {
  mkdirSync(folder, { recursive: true });
  const random = seeded(mixSeed('eval', SEED));
  const contexts = [];
  for (let context = 0; context < EVAL_CONTEXTS; context++) {
    const scenes = apart(Array.from({ length: 4 }, () => () => sampler.sample(random.pick(EVAL_KINDS), EVAL_SIDE, EVAL_SIDE, random)));
    const files = scenes.map((_, i) => `${String(context).padStart(2, '0')}-${i + 1}.png`);
    await Promise.all(scenes.map((scene, i) => save(scene, path.join(folder, files[i] as string))));
    contexts.push({
      images: files,
      concepts: scenes.map(describe),
      backgrounds: scenes.map(({ colour }) => colour),
      questions: askEach(EVAL_TYPES, new Contents(scenes), random),
    });
  }
  writeJson(path.join(folder, 'eval.json'), { seed: SEED, contexts });
}

/** Scenes no two of which share what a question by content could name. */
function apart(draws: readonly (() => Scene)[]): Scene[] {
  const taken = new Set<string>();
  return draws.map((draw) => {
    let scene = draw();
    while (exclusiveKeys(scene).some((key) => taken.has(key))) scene = draw();
    for (const key of exclusiveKeys(scene)) taken.add(key);
    return scene;
  });
}

/** One question of each type, none twice; a type the context has nothing for gives way to naming or to colour. */
function askEach(types: readonly QuestionType[], contents: Contents, random: Random): Pick<Asked, 'type' | 'question' | 'answer'>[] {
  const asked = new Map<string, Pick<Asked, 'type' | 'question' | 'answer'>>();
  for (const wanted of types) {
    for (let attempt = 0, before = asked.size; asked.size === before && attempt < 50; attempt++) {
      const made = ask(attempt < 40 ? wanted : 'colour', contents, random);
      if (made && !asked.has(made.question)) asked.set(made.question, { type: made.type, question: made.question, answer: made.answer });
    }
  }
  return [...asked.values()];
}

/** Sets, icons and licences of a scene's drawings, or the font of its words. */
function credit({ items }: Scene): unknown {
  const [first] = items;
  if (!first || (first.thing >= FIRST_SHAPE && first.thing < FIRST_WORD)) return { set: 'attentionpack', licence: 'Apache-2.0' };
  if (first.thing >= FIRST_WORD) return { font: FONTS[first.style] };
  const { style, licence } = STYLES[first.style] as (typeof STYLES)[number];
  return { set: style, icon: [...new Set(items.map(({ thing }) => ICONS[thing]))].join(', '), licence };
}

async function save(scene: Scene, file: string): Promise<void> {
  const { width, height } = scene;
  const image = sharp(Buffer.from(render(scene, assets).pixels), { raw: { width, height, channels: 3 } });
  await (file.endsWith('.jpg') ? image.jpeg({ quality: 90 }) : image.png({ compressionLevel: 9 })).toFile(file);
}

const writeJson = (file: string, value: unknown): void => writeFileSync(file, `${JSON.stringify(value, null, 1)}\n`);

const [folder] = process.argv.slice(2);
if (!folder) {
  console.error('say the folder of a model, such as models/pack-mha');
  process.exit(2);
}
await writeDemo(path.join(folder, 'demo'));
await writeEval(path.join(folder, 'eval'));
