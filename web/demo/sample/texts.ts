/** The content of the sample project: a small team plans a launch. */

/** A file and its versions: the author and the text of each. */
export interface StoryFile {
  path: string
  versions: { author: string; text: string }[]
}

const MAYA = 'Maya'
const JONAS = 'Jonas'
const SCRIBE = 'Scribe'

const WELCOME = `# Welcome

This is a project in which **people and agents write in the same files**. Everything you see goes over plain HTTP.

## Three things to try

1. Open a second window (top right) and put both side by side. Type in one, watch the other.
2. Ask the agent on the right for a *table of contents*, and keep typing while it writes.
3. Open **History** and go back to any version. Nothing is lost.

## What the panes are

| Pane | |
| --- | --- |
| Files | texts and rich documents, search with Ctrl+P, and a bin |
| Agent | sessions with turns: what was asked, done and written |
| Cost | what it costs to be up to date, beside fetching whole files |

Every pane has a *How* button: the same in \`curl\` and in TypeScript.
`

const BRIEF_PARTS = [
  '# Launch of the field notebook\n\nA notebook for people who work outside: it must work without a network.\n',
  '\n## Why now\n\nThe pilot with two ranger stations went well. Both stations want to keep it.\n',
  'Paper forms need two days to reach the office. The notebook needs none.\n',
  '\n## Who it is for\n\n- Rangers, who write with cold fingers\n- The office, which reads the same evening\n',
  '- Volunteers, who come for one weekend\n',
  '\n## What it does\n\nNotes are kept on the device and merged when there is a network.\n',
  'Two people can write in one note at the same time.\n',
  '\n## Risks\n\nThe batteries of the old tablets should be tested in the cold.\n',
  'We need a translation for the northern stations.\n',
  '\n## Dates\n\nThe stations get it on 3 March. The public page will follow a week later.\n'
]

const TASK_STEPS = [
  '# Tasks\n\n- [ ] Test the tablets at −10 °C\n- [ ] Write the public page\n',
  '# Tasks\n\n- [x] Test the tablets at −10 °C\n- [ ] Write the public page\n',
  '# Tasks\n\n- [x] Test the tablets at −10 °C\n- [ ] Write the public page\n- [ ] Ask the northern stations for a translation\n',
  '# Tasks\n\n- [x] Test the tablets at −10 °C\n- [ ] Write the public page (Maya)\n- [ ] Ask the northern stations for a translation (Jonas)\n',
  '# Tasks\n\n- [x] Test the tablets at −10 °C\n- [ ] Write the public page (Maya)\n- [ ] Ask the northern stations for a translation (Jonas)\n- [ ] Print forty short guides\n',
  '# Tasks\n\n- [x] Test the tablets at −10 °C\n- [x] Write the public page (Maya)\n- [ ] Ask the northern stations for a translation (Jonas)\n- [ ] Print forty short guides\n'
]

const INTERVIEW_STEPS = [
  '# Interviews\n\n## Station East\n\n“We write when we are back, and forget half of it.”\n',
  '\n## Station North\n\n“The forms are in the wrong language, so nobody fills in the last page.”\n',
  '“A photo says more than my handwriting.”\n',
  '\n## The office\n\n“On Mondays we type for three hours what they wrote on paper.”\n',
  '\nIn common: nobody wants a second tool. It should open where the last note ended.\n'
]

const METRICS = [
  'station,notes_per_week,hours_saved\neast,41,6\n',
  'station,notes_per_week,hours_saved\neast,41,6\nnorth,38,5\n',
  'station,notes_per_week,hours_saved\neast,44,7\nnorth,38,5\nsouth,12,2\n'
]

export const STORY: StoryFile[] = [
  { path: 'Welcome.md', versions: [{ author: MAYA, text: WELCOME }] },
  {
    path: 'launch/brief.md',
    versions: growing(BRIEF_PARTS, [MAYA, MAYA, JONAS, MAYA, JONAS, SCRIBE, SCRIBE, MAYA, JONAS, MAYA])
  },
  { path: 'launch/tasks.md', versions: by(TASK_STEPS, [JONAS, JONAS, SCRIBE, MAYA, MAYA, JONAS]) },
  { path: 'notes/interviews.md', versions: growing(INTERVIEW_STEPS, [JONAS, JONAS, MAYA, MAYA, SCRIBE]) },
  { path: 'data/pilot.csv', versions: by(METRICS, [JONAS, SCRIBE, MAYA]) }
]

export const DELETED_FILE: StoryFile = {
  path: 'notes/names we did not take.md',
  versions: by(
    ['# Names\n\n- Trailbook\n- Outnote\n', '# Names\n\n- Trailbook\n- Outnote\n- Mud & Ink\n'],
    [MAYA, JONAS]
  )
}

export const RICH_FILE = 'launch/press release'

/** The blocks of the rich-text document: headings, paragraphs and list items. Words in `*` are bold. */
export const RICH_STEPS: { author: string; blocks: ['h1' | 'h2' | 'p' | 'li', string][] }[] = [
  {
    author: MAYA,
    blocks: [
      ['h1', 'A notebook that works where the network ends'],
      [
        'p',
        'From 3 March the rangers of two stations write their notes *once*: outside, on the device that they carry.'
      ]
    ]
  },
  {
    author: JONAS,
    blocks: [
      ['h2', 'What is new'],
      ['li', 'Notes of *several people* become one text, without a lost word'],
      ['li', 'Every earlier state of a note can be read and brought back'],
      ['li', 'The office reads in the evening what was written in the morning']
    ]
  },
  {
    author: MAYA,
    blocks: [['p', '“We got back our Mondays,” says the head of the office.']]
  }
]

export const TURN = {
  title: 'Plan the launch',
  prompt: 'Look through the interviews. What do all of them have in common?',
  blocks: [
    { type: 'thinking', content: 'Three interviews. I look for wishes that come up more than once.' },
    { type: 'tool_use', content: { id: '1', name: 'Read', input: { file_path: 'notes/interviews.md' } } },
    {
      type: 'tool_result',
      content: { tool_use_id: '1', content: INTERVIEW_STEPS.slice(0, 4).join(''), is_error: false }
    },
    {
      type: 'text',
      content:
        'Two things come up **everywhere**:\n\n- nobody wants a *second tool*\n- writing twice costs the most time'
    },
    { type: 'tool_use', content: { id: '2', name: 'Edit', input: { file_path: 'notes/interviews.md' } } },
    { type: 'tool_result', content: { tool_use_id: '2', content: '1 line added', is_error: false } },
    { type: 'text', content: 'I wrote it below the interviews.' }
  ]
} as const

function growing(parts: string[], authors: string[]): StoryFile['versions'] {
  return by(
    parts.map((_, index) => parts.slice(0, index + 1).join('')),
    authors
  )
}

function by(texts: string[], authors: string[]): StoryFile['versions'] {
  return texts.map((text, index) => ({ author: authors[index] ?? MAYA, text }))
}
