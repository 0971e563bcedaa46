/** How do I ask several questions about pictures that are read once? */
import { AutoModelForImageTextToText, AutoProcessor, RawImage, type Tensor } from '@huggingface/transformers';
import { PackedCache, packed, prompt, question } from 'attentionpack';

const folder = './models/pack-mha';
const images = await Promise.all(['01.png', '02.jpg', '03.png', '04.png'].map((file) => RawImage.read(`${folder}/demo/${file}`)));
const processor = await AutoProcessor.from_pretrained(folder);

await using model = await packed(AutoModelForImageTextToText, folder, { dtype: 'q8' });
await using album = new PackedCache(model);

for (const text of ['what is in image 2?', 'which image shows a sun?', 'is there a castle?']) {
  const inputs = await prompt(processor, [question(text, images.length)], images);
  const output = (await model.generate({ ...inputs, past_key_values: album, max_new_tokens: 32 } as never)) as Tensor;
  console.log(text, '->', ...processor.batch_decode(answerOf(output, inputs.input_ids), { skip_special_tokens: true }));
  album.crop(); // keep the pictures, forget the question
}
const { packedTokens, visualCompression } = album.report();
console.log(`${packedTokens} image tokens, ${visualCompression.toFixed(1)} times smaller than dense fp16`);

/** What `generate` added behind the prompt. */
function answerOf(output: Tensor, prompt: Tensor): Tensor {
  return output.slice(null, [prompt.dims[1] ?? 0, output.dims[1] ?? 0]);
}
