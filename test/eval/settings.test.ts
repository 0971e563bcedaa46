import { expect, test } from 'vitest';
import { DENSE, parseSetting, parseSettings } from '../../src/eval/settings.ts';

const named = (text: string): string[] => parseSettings(text).map(({ name }) => name);

test('a part with an equals sign belongs to the setting before it; dense comes first, named or not', () => {
  expect(named('int8,packed:8,dense')).toEqual(['dense', 'int8', 'packed:8']);
  expect(named('packed:rank=8,basis-per=image,rotary=post-rope,int4,packed:64/32,packed')).toEqual([
    'dense',
    'packed:8,rotary=post-rope,basis-per=image',
    'int4',
    'packed:64/32',
    'packed',
  ]);
  expect(named('packed,rank=4,int8,scales=tensor')).toEqual(['dense', 'packed:4', 'int8:scales=tensor']);
  expect(parseSettings('dense')).toEqual([DENSE]);
});

test('one setting has one name, however it was written', () => {
  for (const text of ['packed:8,codes=int8', 'packed:codes=int8,rank=8', 'packed:rank=8,codes=int8'])
    expect(parseSetting(text)).toEqual({ kind: 'packed', name: 'packed:8,codes=int8', options: { rank: 8, codes: 'int8' } });
  expect(parseSetting('int4:scales=channel')).toEqual(parseSetting('int4'));
  for (const name of [
    'packed:64/32,rotary=rotate-late,sink=0',
    'packed:rotary=m-rope',
    'int8:scales=tensor',
    'half-resolution',
    'dense-fp32',
    'dense-fp16',
  ])
    expect(parseSetting(name).name).toBe(name);
});

test('bits of mixed columns are whole or not', () => {
  expect(parseSetting('packed:spread=even,bits=2,codes=mixed,rank=16,basis=mixed')).toEqual({
    kind: 'packed',
    name: 'packed:16,codes=mixed,basis=mixed,bits=2,spread=even',
    options: { rank: 16, codes: 'mixed', basis: 'mixed', bits: 2, spread: 'even' },
  });
  expect(parseSetting('packed:codes=mixed,bits=3.5')).toMatchObject({ options: { bits: 3.5 } });
});

test('bases may be weighted, and may grow', () => {
  expect(parseSetting('packed:tolerance=0.05,bases=weighted,compact-at=span,basis-per=context,rank=16')).toEqual({
    kind: 'packed',
    name: 'packed:16,basis-per=context,tolerance=0.05,bases=weighted,compact-at=span',
    options: { rank: 16, basisPer: 'context', tolerance: 0.05, bases: 'weighted', compactAt: 'span' },
  });
  for (const text of ['.05', '0.050', '1', '-0.1', 'few'])
    expect(() => parseSetting(`packed:tolerance=${text}`)).toThrow(`packed:tolerance takes a share below 1 such as 0.02; got '${text}'`);
  expect(() => parseSetting('packed:bases=best')).toThrow(/bases must be one of plain, weighted; got 'best'/);
});

test('text may be packed too', () => {
  expect(parseSetting('packed:recent=16,text=packed,basis-per=context,rank=8')).toEqual({
    kind: 'packed',
    name: 'packed:8,basis-per=context,recent=16,text=packed',
    options: { rank: 8, basisPer: 'context', recent: 16, text: 'packed' },
  });
  expect(parseSetting('packed:text-recent=0,text-every=32')).toMatchObject({ options: { text: { every: 32, recent: 0 } } });
  expect(() => parseSetting('packed:text=dense,text-every=32')).toThrow('text-every and text-recent are of packed text, and text is dense');
  expect(() => parseSetting('packed:text=all')).toThrow(/text must be one of dense, packed; got 'all'/);
});

test('evicting goes with packing, or alone', () => {
  expect(parseSetting('packed:keep=.25,evict=snapkv,rank=16,evict-when=packing')).toEqual({
    kind: 'packed',
    name: 'packed:16,evict=snapkv,keep=0.25,evict-when=packing',
    options: { rank: 16, evict: { policy: 'snapkv', keep: 0.25, when: 'packing' } },
  });
  expect(parseSetting('evict:random,keep=40,evict-seed=3')).toEqual({
    kind: 'packed',
    name: 'evict:random,keep=40,evict-seed=3',
    options: { window: 'float16', rotary: 'post-rope', recent: 2 ** 30, evict: { policy: 'random', keep: 40, seed: 3 } },
  });
  expect(named('evict:h2o,keep=0.5,packed:evict=h2o,keep=0.5')).toEqual(['dense', 'evict:h2o,keep=0.5', 'packed:evict=h2o,keep=0.5']);
});

test('packed tokens may be read in tiers', () => {
  expect(parseSetting('packed:rank=16,tier-of=keys,tiers=0.25,tier-rank=4/2,evict=h2o,keep=9')).toEqual({
    kind: 'packed',
    name: 'packed:16,tiers=0.25,tier-rank=4/2,tier-of=keys,evict=h2o,keep=9',
    options: { rank: 16, tiers: { share: 0.25, rank: { keys: 4, values: 2 }, of: 'keys' }, evict: { policy: 'h2o', keep: 9 } },
  });
  expect(parseSetting('packed:tiers=1,tier-rank=4,tier-every=3')).toMatchObject({ options: { tiers: { share: 1, rank: 4, every: 3 } } });
});

test('ranks of keys and of values may differ', () => {
  expect(parseSetting('packed:rank=64/32')).toMatchObject({ options: { rank: { keys: 64, values: 32 } } });
});

test.each([
  ['packd:8', "'packd:8' is not a cache setting; use dense, dense-fp32, dense-fp16, half-resolution, int8, int4, packed, evict"],
  ['', "'' is not a cache setting"],
  ['packed:size=8', "packed has no option 'size'; it has preset, compression"],
  ['packed:8,rank=4', 'rank is given twice'],
  ['packed:0', "packed:rank takes a whole number >= 1; got '0'"],
  ['packed:4.5', "packed:rank takes a whole number >= 1; got '4.5'"],
  ['packed:8,codes=mixed,bits=0', "packed:bits takes a number from 1 to 8; got '0'"],
  ['packed:8,rotary=late', "packed:rotary must be one of rotate-late, m-rope, post-rope; got 'late'"],
  ['packed:8,tiers=0.25', "'packed:8,tiers=0.25': tiers need a share and the rank of the others, such as tiers=0.25,tier-rank=16"],
  ['packed:8,tiers=0.250,tier-rank=2', "packed:tiers takes a share such as 0.25, at most 1; got '0.250'"],
  ['packed:8,tier-of=all', "packed:tier-of must be one of both, keys, values; got 'all'"],
  ['int8:4', "int8 takes scales=channel or scales=tensor; got '4'"],
  ['int4:scales=row', "int4:scales must be one of channel, tensor; got 'row'"],
  ['packed:8,evict=h2o', "'packed:8,evict=h2o': evict needs a policy and what to keep of it, such as evict=snapkv,keep=0.25"],
  ['packed:evict-of=all', 'evict needs a policy and what to keep of it'],
  ['evict', "'evict': evict takes a policy: h2o, snapkv"],
  ['evict:h2o,keep=0', "evict:keep takes a share below 1 or a whole number >= 1; got '0'"],
  ['evict:h2o,keep=1.5', "evict:keep takes a share below 1 or a whole number >= 1; got '1.5'"],
  ['evict:oldest,keep=2', "evict:evict must be one of h2o, snapkv, streaming-llm, key-norm, fastv, importance, random; got 'oldest'"],
  ['evict:h2o,keep=2,rank=3', "evict has no option 'rank'; it has evict, keep"],
  ['half-resolution:2', "cache setting 'half-resolution' takes no options"],
  ['packed:8,packed:rank=8', "cache setting 'packed:8' is given twice"],
])('%s is refused in one line', (text, message) => {
  expect(() => parseSettings(text)).toThrow(message);
});
