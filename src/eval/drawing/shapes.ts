/** Plain shapes, as white tiles to be tinted. */
import { assert } from '../../errors.ts';

export const SHAPES = ['circle', 'square', 'triangle', 'star', 'heart', 'cross'] as const;
export type Shape = (typeof SHAPES)[number];

/** The shape in white — [size, size, 4], premultiplied, edges from 4 x 4 samples a pixel. */
export function shapeTile(shape: Shape, size: number): Uint8Array {
  const inside = INSIDE[shape];
  assert(inside, `no shape ${shape}`);
  const pixels = new Uint8Array(size * size * 4);
  for (let i = 0; i < size * size; i++) {
    let covered = 0;
    for (let sample = 0; sample < 16; sample++) {
      const x = ((i % size) + ((sample % 4) + 0.5) / 4) / size;
      const y = (Math.floor(i / size) + (Math.floor(sample / 4) + 0.5) / 4) / size;
      if (inside(x * 2 - 1, y * 2 - 1)) covered++;
    }
    pixels.fill(Math.round((covered * 255) / 16), i * 4, i * 4 + 4);
  }
  return pixels;
}

/** Whether a point of the square -1 … 1 (y downwards) lies in the shape. */
const INSIDE: Record<Shape, (x: number, y: number) => boolean> = {
  circle: (x, y) => x * x + y * y < 0.92 ** 2,
  square: (x, y) => Math.max(Math.abs(x), Math.abs(y)) < 0.82,
  triangle: (x, y) => y < 0.8 && Math.abs(x) < ((y + 0.95) / 1.75) * 0.98,
  star: (x, y) => {
    // Five points: the radius allowed falls from each point to the notch beside it along a straight edge.
    const slice = (2 * Math.PI) / 5;
    const angle = Math.abs((((Math.atan2(x, -y) % slice) + slice * 1.5) % slice) - slice / 2);
    const [outer, inner] = [0.98, 0.42];
    const edge = (outer * inner * Math.sin(slice / 2)) / (outer * Math.sin(angle) + inner * Math.sin(slice / 2 - angle));
    return Math.hypot(x, y) < edge;
  },
  heart: (x, y) => {
    const [u, v] = [x * 1.2, -y * 1.15 + 0.15];
    return (u * u + v * v - 1) ** 3 - u * u * v ** 3 < 0;
  },
  cross: (x, y) => Math.max(Math.abs(x), Math.abs(y)) < 0.9 && Math.min(Math.abs(x), Math.abs(y)) < 0.32,
};
