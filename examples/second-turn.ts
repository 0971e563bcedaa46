/** How does a conversation go on with another picture? */
import { AutoModelForImageTextToText, AutoProcessor, RawImage, type Tensor } from '@huggingface/transformers';
import { type Message, PackedCache, packed, prompt } from 'attentionpack';

const folder = './models/pack-mha';
const processor = await AutoProcessor.from_pretrained(folder);
await using model = await packed(AutoModelForImageTextToText, folder, { dtype: 'q8', rank: 12 });
await using cache = new PackedCache(model);

const conversation: Message[] = [];
const images: RawImage[] = [];
for (const [file, text] of [
  ['01.png', 'what is in image 1?'],
  ['02.jpg', 'what is in image 2?'],
] as const) {
  images.push(await RawImage.read(`${folder}/demo/${file}`));
  conversation.push({ role: 'user', content: [{ type: 'image' }, { type: 'text', text }] });
  const inputs = await prompt(processor, conversation, images);
  // The whole conversation goes in; the cache knows what it has seen, and only the new picture is encoded.
  const output = (await model.generate({ ...inputs, past_key_values: cache, max_new_tokens: 16 } as never)) as Tensor;
  const [answer = ''] = processor.batch_decode(answerOf(output, inputs.input_ids), { skip_special_tokens: true });
  conversation.push({ role: 'assistant', content: answer });
  console.log(text, '->', answer);
}

/** What `generate` added behind the prompt. */
function answerOf(output: Tensor, prompt: Tensor): Tensor {
  return output.slice(null, [prompt.dims[1] ?? 0, output.dims[1] ?? 0]);
}
