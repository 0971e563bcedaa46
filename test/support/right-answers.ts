/** Answers a question about scenes by reading its sentence and looking at everything: the plain twin of the questioner. */
import { CONCEPTS } from '../../src/eval/drawing/assets.ts';
import { nameOf, PLACES, type Scene } from '../../src/eval/drawing/scene.ts';
import { SHAPES } from '../../src/eval/drawing/shapes.ts';
import { plural, UNCOUNTED, withArticle } from '../../src/eval/questions/names.ts';
import { type Form, PHRASINGS } from '../../src/eval/questions/phrasings.ts';

/** Every right answer; one alone if the question is fair. */
export function rightAnswers(question: string, scenes: readonly Scene[]): string[] {
  const read = readings(question);
  if (read.length === 0) throw new Error(`no sentence of this form: ${question}`);
  // A sentence may fit several forms ("how many stars are there?" of one image or of many): each reading counts.
  return [...new Set(read.flatMap(({ form, gaps }) => solve(form, gaps, scenes)))];
}

type Gaps = Readonly<Record<string, string>>;

/** Every sentence as a pattern; no name has "image 3" or "the word" in it. */
const PATTERNS = Object.entries(PHRASINGS).flatMap(([form, phrasings]) =>
  phrasings.map((phrasing) => {
    const gap = (_: string, name: string) => `(?<${name}>${name === 'k' ? '\\d+' : '(?!the word )(?:(?! image \\d)[^?])+?'})`;
    return { form: form as Form, pattern: new RegExp(`^${phrasing.replace(/[?]/g, '\\?').replace(/\{(\w)\}/g, gap)}$`) };
  }),
);

function readings(question: string): { form: Form; gaps: Gaps }[] {
  return PATTERNS.flatMap(({ form, pattern }) => {
    const match = pattern.exec(question);
    return match ? [{ form, gaps: { ...match.groups } }] : [];
  });
}

function solve(form: Form, { k = '1', a, b, p, w, n, c, q, o }: Gaps, scenes: readonly Scene[]): string[] {
  const scene = scenes[Number(k) - 1] as Scene;
  // What the sentence names, from whichever gap it has.
  const isNamed = (name: string) => name === b || withArticle(name) === a || plural(name) === p;
  const showing = [...scenes.keys()].filter(
    (i) => at(scenes, i).kind !== 'text' && at(scenes, i).items.some((item) => isNamed(nameOf(item))),
  );
  const saying = [...scenes.keys()].filter((i) => at(scenes, i).kind === 'text' && at(scenes, i).items.some((item) => nameOf(item) === w));
  const image = (i: number) => `image ${i + 1}`;
  const exists = (found: number[]) => (found.length > 0 ? found.map((i) => `yes, ${image(i)}`) : ['no']);
  const beside = (step: number) => showing.map((i) => describe(at(scenes, i + step)));
  const named = (name: string | undefined) => scenes.findIndex((other) => other.items.some((item) => nameOf(item) === name));
  switch (form) {
    case 'name one':
    case 'name':
    case 'text one':
    case 'text':
      return [describe(scene)];
    case 'colour one':
    case 'colour':
      return [scene.colour];
    case 'colour behind':
    case 'colour behind several':
      return showing.map((i) => at(scenes, i).colour);
    case 'colour behind word':
      return saying.map((i) => at(scenes, i).colour);
    case 'what at one':
    case 'what at':
      return scene.items.filter((item) => quadrant(scene, item) === q).map(nameOf);
    case 'where one':
    case 'where':
      return scene.items.filter((item) => isNamed(nameOf(item))).map((item) => quadrant(scene, item));
    case 'count one':
    case 'count':
      return k === '1' && scenes.length > 1 && form === 'count one'
        ? []
        : [String(scene.items.filter((item) => isNamed(nameOf(item))).length)];
    case 'count found':
      return showing.map((i) => String(at(scenes, i).items.filter((item) => isNamed(nameOf(item))).length));
    case 'which':
    case 'which several':
      return showing.map(image);
    case 'which count':
      return [...scenes.keys()].filter((i) => at(scenes, i).kind === 'count' && describe(at(scenes, i)) === n).map(image);
    case 'which word':
      return saying.map(image);
    case 'which colour':
      return [...scenes.keys()].filter((i) => at(scenes, i).colour === c).map(image);
    case 'exists':
      return exists(showing);
    case 'exists word':
      return exists(saying);
    case 'list':
      return [scenes.map(describe).join(', ')];
    case 'after':
      return beside(1);
    case 'before':
      return beside(-1);
    case 'first':
      return [(named(b) < named(o) ? b : o) as string];
    case 'last':
      return [(named(b) > named(o) ? b : o) as string];
  }
}

const at = (scenes: readonly Scene[], i: number): Scene => scenes[i] as Scene;

function describe({ kind, items }: Scene): string {
  const names = items.map(nameOf);
  if (kind === 'count') return names.length === 1 ? `1 ${names[0]}` : `${names.length} ${plural(names[0] as string)}`;
  return names.join(kind === 'text' ? ' ' : ' and ');
}

const quadrant = ({ width, height }: Scene, { x, y }: { x: number; y: number }): string => {
  const [top, left] = [y < height / 2, x < width / 2];
  return PLACES.find((place) => place.startsWith('top') === top && place.endsWith('left') === left) as string;
};

/** Names of what is counted whose plural is that of another name, or another name itself. */
export const ambiguousPlurals = (): string[] => {
  const names = [...new Set<string>([...CONCEPTS, ...SHAPES])];
  return names.filter((name) => !UNCOUNTED.has(name) && names.some((other) => other !== name && plural(other) === plural(name)));
};
