/** What a context holds and where: which things can be asked about without naming their image. */
import { FIRST_SHAPE, FIRST_WORD } from '../drawing/assets.ts';
import { nameOf, type Scene } from '../drawing/scene.ts';
import { plural } from './names.ts';

/** A thing that exactly one image of a context shows. */
export interface Found {
  readonly name: string;
  /** Index of its image, from 0. */
  readonly image: number;
  readonly scene: Scene;
}

/** "says river" or "violin": words that are read and things that are seen do not meet. */
const keysOf = (scene: Scene): Set<string> =>
  new Set(scene.items.map((item) => (scene.kind === 'text' ? `says ${nameOf(item)}` : nameOf(item))));

/**
 * Keys that no other image of a context should share, so that questions by content have one answer. Shapes are left out: there are only six of
 * them; asked about by content only while they are unique.
 */
export const exclusiveKeys = (scene: Scene): string[] => {
  const isShape = scene.items.some(({ thing }) => thing >= FIRST_SHAPE && thing < FIRST_WORD);
  return isShape ? [] : [...keysOf(scene)];
};

/** What an image shows in a few words: "cat", "cat and dog", "5 stars", "river stone lamp". */
export function describe(scene: Scene): string {
  const names = scene.items.map(nameOf);
  if (scene.kind === 'count') return counted(scene);
  return scene.kind === 'text' ? names.join(' ') : names.join(' and ');
}

/** "5 stars", "1 star". */
export function counted(scene: Scene): string {
  const [first] = scene.items;
  const name = first ? nameOf(first) : '';
  return `${scene.items.length} ${scene.items.length === 1 ? name : plural(name)}`;
}

export class Contents {
  readonly scenes: readonly Scene[];
  /** Things seen in exactly one image, and words read in exactly one. */
  readonly things: readonly Found[];
  readonly words: readonly Found[];
  readonly #images = new Map<string, number[]>();

  constructor(scenes: readonly Scene[]) {
    this.scenes = scenes;
    for (const [image, scene] of scenes.entries()) {
      for (const key of keysOf(scene)) {
        const images = this.#images.get(key);
        if (images) images.push(image);
        else this.#images.set(key, [image]);
      }
    }
    const [things, words]: [Found[], Found[]] = [[], []];
    for (const [key, images] of this.#images) {
      const [image] = images;
      if (images.length > 1 || image === undefined) continue;
      const isWord = key.startsWith('says ');
      (isWord ? words : things).push({ name: isWord ? key.slice(5) : key, image, scene: scenes[image] as Scene });
    }
    this.things = things;
    this.words = words;
  }

  shows(name: string): boolean {
    return this.#images.has(name);
  }

  says(word: string): boolean {
    return this.#images.has(`says ${word}`);
  }

  /** Indices of the images of one kind. */
  ofKind(...kinds: readonly Scene['kind'][]): number[] {
    return this.scenes.flatMap((scene, i) => (kinds.includes(scene.kind) ? [i] : []));
  }
}
