/** What a picture shows, as plain JSON: enough to draw it again and to answer questions about it. */
import { THINGS } from './assets.ts';

export const KINDS = ['single', 'places', 'count', 'text'] as const;
export type Kind = (typeof KINDS)[number];

/** Background colours by name, each [red, green, blue]. */
export const COLOURS = {
  red: [210, 40, 40],
  orange: [245, 140, 30],
  yellow: [245, 220, 60],
  green: [50, 160, 70],
  blue: [50, 100, 215],
  purple: [135, 60, 175],
  white: [245, 245, 245],
  black: [25, 25, 25],
} as const;
export type Colour = keyof typeof COLOURS;
export const COLOUR_NAMES = Object.keys(COLOURS) as readonly Colour[];

export type Rgb = readonly [red: number, green: number, blue: number];

/** One thing drawn. Lengths in pixels, origin at the top left. */
export interface Item {
  /** Id of a concept, shape or word: an index into THINGS. */
  readonly thing: number;
  /** Centre of a drawing or shape; left end of a word. */
  readonly x: number;
  /** Centre of a drawing or shape; baseline of a word. */
  readonly y: number;
  /** Side of a drawing or shape before turning; height of a word's "b". */
  readonly size: number;
  /** Turned clockwise by, in degrees. Words are never turned. */
  readonly angle?: number;
  /** Index of the drawing style, or of a word's font. */
  readonly style: number;
  /** Colour of a shape or word; a drawing has its own. */
  readonly tint?: Rgb;
}

export interface Scene {
  readonly kind: Kind;
  readonly width: number;
  readonly height: number;
  /** Name of the background's colour. */
  readonly colour: Colour;
  /** Decides the background's pattern and the jitter of colours. */
  readonly seed: number;
  /** `single`: one; `places`: two to four; `count`: copies of one thing; `text`: words from top to bottom. */
  readonly items: readonly Item[];
}

export const PLACES = ['top left', 'top right', 'bottom left', 'bottom right'] as const;
export type Place = (typeof PLACES)[number];

/** The quadrant an item's centre lies in. */
export function placeOf(scene: Scene, item: Item): Place {
  return PLACES[(item.y < scene.height / 2 ? 0 : 2) + (item.x < scene.width / 2 ? 0 : 1)] as Place;
}

export const nameOf = (item: Item): string => THINGS[item.thing] as string;
