// Which words of a text another one has, in the same order: what ROUGE-L counts. Case and punctuation don't.
const segmenter = Intl.Segmenter && new Intl.Segmenter(undefined, { granularity: "word" });
const MOST_PAIRS = 4e6; // of words: texts longer than 2,000 words each are left unmarked

// "Was ist Öl?" -> [{text: "Was", isWord: true}, {text: " ", isWord: false}, ...], in scripts without spaces as well.
function splitWords(text) {
  if (segmenter)
    return [...segmenter.segment(text)].map(({ segment, isWordLike }) => ({ text: segment, isWord: isWordLike }));
  return text.split(/(\s+)/).map((part) => ({ text: part, isWord: /\S/.test(part) }));
}

// The parts of `text`, each {text, isMarked}: marked are its words that `other` lacks, and what stands between two such.
function markWords(text, other) {
  const parts = splitWords(text), places = parts.flatMap((part, place) => part.isWord ? [place] : []);
  const ours = places.map((place) => parts[place].text.toLowerCase());
  const theirs = splitWords(other).filter((part) => part.isWord).map((part) => part.text.toLowerCase());
  if (ours.length * theirs.length > MOST_PAIRS) return [{ text, isMarked: false }];
  const shared = new Set(longestShared(ours, theirs).map((number) => places[number]));
  const isMarked = parts.map((part, place) => part.isWord && !shared.has(place));
  places.slice(1).forEach((place, number) => { // spaces and signs between two marked words
    const before = places[number];
    if (isMarked[before] && isMarked[place]) isMarked.fill(true, before, place);
  });
  const runs = [];
  parts.forEach((part, place) => {
    if (runs.length && runs.at(-1).isMarked === isMarked[place]) runs.at(-1).text += part.text;
    else runs.push({ text: part.text, isMarked: isMarked[place] });
  });
  return runs;
}

// Numbers of the words of `ours` in the longest row of words that `theirs` has in the same order.
function longestShared(ours, theirs) {
  const width = theirs.length + 1, lengths = new Uint16Array((ours.length + 1) * width); // [from ours][from theirs]
  for (let i = ours.length - 1; i >= 0; i--)
    for (let j = theirs.length - 1; j >= 0; j--)
      lengths[i * width + j] = ours[i] === theirs[j] ? lengths[(i + 1) * width + j + 1] + 1
        : Math.max(lengths[(i + 1) * width + j], lengths[i * width + j + 1]);
  const found = [];
  for (let i = 0, j = 0; i < ours.length && j < theirs.length;) {
    if (ours[i] === theirs[j]) { found.push(i++); j++; }
    else if (lengths[(i + 1) * width + j] >= lengths[i * width + j + 1]) i++;
    else j++;
  }
  return found;
}
