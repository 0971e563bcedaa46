/** Makes a task from a recipe: each context is drawn and asked about from a seed of its own, so that any can be had without those before it. */
import { RawImage } from '@huggingface/transformers';
import { AttentionPackError } from '../../errors.ts';
import { type Assets, loadAssets, type Split } from '../drawing/assets.ts';
import { mixSeed, type Random, seeded } from '../drawing/random.ts';
import { render } from '../drawing/render.ts';
import { SceneSampler } from '../drawing/sample.ts';
import type { Kind, Scene } from '../drawing/scene.ts';
import { type Asked, ask, Contents, exclusiveKeys, type QuestionType } from '../questions/index.ts';
import type { Context, Question, Task } from '../task.ts';

export interface DrawnOptions {
  /** Width and height of pictures, in pixels: multiples of 16 from 64 to 320. Default 64, the size of the embedded pack-mha. */
  readonly size?: number;
  /** Draws other contexts of the same sorts. Default 1. */
  readonly seed?: number;
}

export interface Recipe extends Omit<Task, 'size' | 'contexts'> {
  readonly numContexts: number;
  /** Kinds of the pictures of one context, in order or drawn at random. */
  kinds(random: Random): readonly Kind[];
  /** Sorts of questions of one context, in order. */
  readonly asks: readonly QuestionType[];
  /** Whether a drawn question belongs to the task. Default: all do. */
  fits?(asked: Asked): boolean;
  /** Styles and fonts: those of training, or one style and one font never trained on. Default 'train'. */
  readonly split?: Split;
  readonly isClip?: boolean;
}

/** A context with the scenes behind it. */
export interface DrawnContext {
  readonly scenes: readonly Scene[];
  readonly asked: readonly Asked[];
}

/** @throws {AttentionPackError} for a size that pictures cannot have, or a seed that is no whole number */
export function drawnTask(recipe: Recipe, { size = 64, seed = 1 }: DrawnOptions = {}): Task {
  if (!Number.isInteger(size) || size % 16 !== 0 || size < 64 || size > 320)
    throw new AttentionPackError(`pictures of ${size} pixels cannot be drawn; use a multiple of 16 from 64 to 320`);
  if (!Number.isSafeInteger(seed)) throw new AttentionPackError(`the seed of a task is a whole number; got ${seed}`);
  const { name, about, metricName, metric, maxNewTokens, numContexts, isClip } = recipe;
  return {
    ...{ name, about, metricName, metric, maxNewTokens },
    size: numContexts,
    async *contexts(from = 0) {
      const assets = await loadAssets(recipe.split ?? 'train');
      const sampler = new SceneSampler(assets, recipe.split ?? 'train');
      for (let index = from; index < numContexts; index++) {
        const { scenes, asked } = drawContext(recipe, sampler, index, size, seed);
        yield contextOf(`${name}-${seed}-${size}-${index}`, scenes, asked, assets, isClip);
      }
    },
  };
}

function contextOf(id: string, scenes: readonly Scene[], asked: readonly Asked[], assets: Assets, isClip: boolean | undefined): Context {
  return {
    id,
    numImages: scenes.length,
    images: async () => scenes.map((scene) => new RawImage(render(scene, assets).pixels, scene.width, scene.height, 3)),
    ...(isClip && { isClip }),
    questions: asked.map(
      ({ type, question, answer, choices }): Question => ({ text: question, answers: [answer], kind: type, ...(choices && { choices }) }),
    ),
  };
}

/** The scenes and questions of one context: the same for the same recipe, index, size and seed. */
export function drawContext(recipe: Recipe, sampler: SceneSampler, index: number, size: number, seed: number): DrawnContext {
  // Training streams are seeded under other names (train/*.ts).
  const random = seeded(mixSeed('task', recipe.name, seed, size, index));
  for (;;) {
    const scenes = drawApart(recipe.kinds(random), sampler, size, random);
    const asked = askEach(recipe, new Contents(scenes), random);
    // A context that cannot be asked everything (too few unique things) is drawn anew.
    if (asked) return { scenes, asked };
  }
}

/** Scenes no two of which share a drawing or a word. */
function drawApart(kinds: readonly Kind[], sampler: SceneSampler, size: number, random: Random): Scene[] {
  const taken = new Set<string>();
  return kinds.map((kind) => {
    for (;;) {
      const scene = sampler.sample(kind, size, size, random);
      const keys = exclusiveKeys(scene);
      if (keys.some((key) => taken.has(key))) continue;
      for (const key of keys) taken.add(key);
      return scene;
    }
  });
}

/** One question of each sort asked for, none twice; undefined if the context does not have them. */
function askEach({ asks, fits = () => true }: Recipe, contents: Contents, random: Random): Asked[] | undefined {
  const asked = new Map<string, Asked>();
  for (const type of asks) {
    const before = asked.size;
    for (let attempt = 0; attempt < 100 && asked.size === before; attempt++) {
      const one = ask(type, contents, random);
      if (one && fits(one) && !asked.has(one.question)) asked.set(one.question, one);
    }
    if (asked.size === before) return;
  }
  return [...asked.values()];
}
