/** The behaviour of the sample agent: rules instead of a model. Pure functions. */
import { plural } from '../shell/format.js'

/** Replaces the range from `start` to `end`, in UTF-16 code units, by `text`. */
interface Change {
  start: number
  end: number
  text: string
}

export interface Script {
  thought: string
  /** The agent's messages before and after the changes, as Markdown. */
  before: string
  change: Change | null
  after: string
}

export const SUGGESTIONS = ['Make a table of contents', 'Turn this into tasks', 'Write a summary'] as const

/** The titles of the sections that this agent writes. */
const OWN = ['Contents', 'Tasks', 'In short', 'Next steps']

interface Heading {
  level: number
  title: string
  start: number
  end: number
}

/** The script for a prompt and a text: the changes and the messages. */
export function scriptFor(prompt: string, text: string): Script {
  const asked = prompt.toLowerCase()
  if (/content|toc|outline/.test(asked)) return contents(text)
  if (/task|to-?do|check ?list/.test(asked)) return tasks(text)
  if (/summar|short|tl;?dr|brief/.test(asked)) return summary(text)
  return nextSteps(text)
}

function contents(text: string): Script {
  const headings = headingsOf(text).filter(({ level, title }) => level > 1 && !OWN.includes(title))
  if (headings.length === 0)
    return nothing('The text has no headings of the second level, so there is nothing to list.')
  const lines = headings.map(({ level, title }) => `${'  '.repeat(level - 2)}- ${title}`)
  return {
    thought: `${plural(headings.length, 'heading')}. The list belongs below the title.`,
    before: 'I list the headings below the title. Keep typing, nothing of yours gets lost.',
    change: section(text, 'Contents', `${lines.join('\n')}\n`, 'below the title'),
    after: `Done: **${plural(headings.length, 'heading')}** listed under *Contents*.`
  }
}

function tasks(text: string): Script {
  const said = sentencesOf(text).filter((line) => /\b(must|need|needs|should|will|todo|wants?|open)\b/i.test(line))
  const titles = headingsOf(text).filter(({ level, title }) => level > 1 && !OWN.includes(title))
  const found = said.length > 0 ? said.slice(0, 6) : titles.map(({ title }) => `Finish “${title}”`)
  if (found.length === 0) return nothing('I find nothing in the text that would be a task.')
  return {
    thought: `${plural(found.length, 'line')} of the text: work that can be ticked off.`,
    before: `I collect what sounds like work, and write it to the end of the file:\n\n${found.map((line) => `- ${line}`).join('\n')}`,
    change: section(text, 'Tasks', `${found.map((line) => `- [ ] ${line}`).join('\n')}\n`, 'at the end'),
    after: `Done: **${plural(found.length, 'task')}** at the end of the file.`
  }
}

function summary(text: string): Script {
  const sentences = sentencesOf(text)
  if (sentences.length === 0) return nothing('The text is empty, so there is nothing to sum up.')
  const words = text.split(/\s+/).filter(Boolean).length
  const chosen = sentences.slice(0, 2).join(' ')
  return {
    thought: `${plural(words, 'word')} in ${plural(sentences.length, 'sentence')}. The first ones say what it is about.`,
    before: 'I write a short summary below the title.',
    change: section(text, 'In short', `${chosen}\n`, 'below the title'),
    after: `Done. The file has ${words} words; the summary has ${chosen.split(/\s+/).length}.`
  }
}

function nextSteps(text: string): Script {
  const lines = [
    'Read this text once more, together',
    'Agree on who does what',
    'Look at the history to see who wrote which line'
  ]
  return {
    thought: 'I know no rule for this. Some next steps never hurt.',
    before:
      'I am a script without a model: I can make a **table of contents**, collect **tasks** and write a **summary**. Here are some next steps instead.',
    change: section(
      text,
      'Next steps',
      `${lines.map((line, index) => `${index + 1}. ${line}`).join('\n')}\n`,
      'at the end'
    ),
    after: 'Done. Connect your own agent to have real work done: choose *Your own agent* below.'
  }
}

function nothing(why: string): Script {
  return { thought: 'I look at what is there.', before: why, change: null, after: 'I changed nothing.' }
}

/** Write a second-level section: replace the section with this title or, if there is none, insert it at `place`. */
function section(text: string, title: string, body: string, place: 'below the title' | 'at the end'): Change {
  const headings = headingsOf(text)
  const index = headings.findIndex((heading) => heading.level === 2 && heading.title === title)
  const old = headings[index]
  if (old !== undefined) {
    const next = headings.slice(index + 1).find(({ level }) => level <= 2)
    return { start: old.start, end: next?.start ?? text.length, text: `## ${title}\n\n${body}${next ? '\n' : ''}` }
  }
  const first = headings[0]
  if (place === 'at the end' || first === undefined || first.level > 1) {
    const gap = text === '' || text.endsWith('\n\n') ? '' : text.endsWith('\n') ? '\n' : '\n\n'
    return { start: text.length, end: text.length, text: `${gap}## ${title}\n\n${body}` }
  }
  const end = Math.min(first.end + 1, text.length)
  const lead = text.length > first.end ? '\n' : '\n\n'
  return { start: end, end, text: `${lead}## ${title}\n\n${body}` }
}

function headingsOf(text: string): Heading[] {
  const withoutCode = text.replaceAll(/^```[\s\S]*?^```/gm, (block) => ' '.repeat(block.length))
  return [...withoutCode.matchAll(/^(#{1,6}) +(.+?) *$/gm)].map((match) => ({
    level: match[1]?.length ?? 1,
    title: match[2] ?? '',
    start: match.index,
    end: match.index + match[0].length
  }))
}

/** The sentences of prose and list items, without markup and without the sections of this agent. */
function sentencesOf(text: string): string[] {
  const own = text.replaceAll(/^## (?:Contents|Tasks|In short|Next steps)\n[\s\S]*?(?=^## |$(?![\s\S]))/gm, '')
  const lines = own.split('\n').filter((line) => !/^(#|>|```|\||---)/.test(line.trim()))
  const blocks = lines.map((line) => line.trim().replace(/^([-*]|\d+\.) +(\[.\] +)?/, ''))
  return blocks
    .flatMap((block) => block.match(/[^.!?]+[.!?]?/g) ?? [])
    .map((each) => each.trim())
    .filter((each) => each.length > 12)
}
