/** The control of half-resolution pictures: what is lost by simply showing less. */
import { type RawImage, Tensor } from '@huggingface/transformers';
import { assert } from '../errors.ts';

/** Pixel values [.., H, W] with every square of two by two pixels replaced by its mean: halved and enlarged again. An odd last row or column is averaged alone. */
export function halfPixels(pixels: Tensor): Tensor {
  const [height = 0, width = 0] = pixels.dims.slice(-2);
  const data = pixels.data as Float32Array;
  assert(pixels.type === 'float32' && height > 0 && width > 0, `pixel values are float32 pictures, got ${pixels.type} [${pixels.dims}]`);
  const out = new Float32Array(data.length);
  for (let plane = 0; plane < data.length; plane += height * width) {
    for (let y = 0; y < height; y += 2) {
      for (let x = 0; x < width; x += 2) {
        const square = [0, 1].flatMap((dy) =>
          [0, 1].flatMap((dx) => (y + dy < height && x + dx < width ? [plane + (y + dy) * width + x + dx] : [])),
        );
        const mean = square.reduce((sum, at) => sum + (data[at] as number), 0) / square.length;
        for (const at of square) out[at] = mean;
      }
    }
  }
  return new Tensor('float32', out, pixels.dims);
}

/** Pictures of half the width and height, for models that give large pictures more tokens. */
export function halfPictures(images: readonly RawImage[]): Promise<RawImage[]> {
  const half = (size: number): number => Math.max(1, Math.round(size / 2));
  // resize works in place on some backends, so it gets a copy.
  return Promise.all(images.map((image) => image.clone().resize(half(image.width), half(image.height))));
}
