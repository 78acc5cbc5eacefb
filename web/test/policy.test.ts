import { describe, expect, test } from 'vitest'
import {
  type Answer,
  afterRefusedWrite,
  DEFAULT_SETTINGS,
  type Decision,
  type Failure,
  type PollSettings
} from '../src/policy.js'
import { PollSchedule } from '../src/polling/schedule.js'
import { camelCased, snakeCased, VECTORS, type Vector, type VectorEvent } from './support/vectors.js'

class Runner {
  readonly noted: Record<string, unknown>[] = []
  private readonly settings: PollSettings
  private readonly schedule: PollSchedule

  constructor(vector: Vector) {
    this.settings = { ...DEFAULT_SETTINGS, ...camelCased(vector.settings) }
    this.schedule = new PollSchedule(this.settings, () => vector.random ?? 0.5)
  }

  run(events: VectorEvent[]): Record<string, unknown>[] {
    for (const event of events) {
      for (let wake = this.schedule.wake; wake !== null && wake <= event.at; wake = this.schedule.wake) {
        this.note(wake, this.schedule.advance(wake), false)
      }
      this.play(event)
    }
    return this.noted
  }

  private play({ at, event: name, held = false, ...members }: VectorEvent): void {
    if (name === 'end') return
    if (name === 'refused_write') {
      const act = afterRefusedWrite(members.code as string, members.difference_sent as boolean)
      this.noted.push({ at, do: act })
      return
    }
    this.note(at, this.pass(at, name, camelCased(members)), held)
  }

  private pass(at: number, name: string, { key, ...members }: Record<string, unknown>): Decision[] {
    const { schedule } = this
    const subscriber = members.subscriber as string
    switch (name) {
      case 'answer':
        return schedule.answered(at, key as string, members as unknown as Answer)
      case 'failure':
        return schedule.failed(at, key as string, members as unknown as Failure)
      case 'register':
        return schedule.register(at, key as string, subscriber, intervalOf(members, this.settings), members)
      case 'enable':
        return schedule.enable(at, key as string, subscriber, members.intervalMs as number)
      case 'disable':
      case 'unregister':
        return schedule[name](at, key as string, subscriber)
      case 'refresh':
        return schedule.refresh(at, key as string, members.waiter as string)
      case 'constrain':
        return schedule.constrain(at, members.constrained as boolean)
      case 'touch':
      case 'pause':
      case 'resume':
      case 'online':
        return schedule[name](at)
      case 'note_write':
        return schedule.noteWrite(at, key as string)
      case 'delivered':
      case 'signal':
      case 'upgrade':
      case 'downgrade':
        return schedule[name](at, key as string)
      default:
        throw new RangeError(`no event ${name}`)
    }
  }

  private note(at: number, decisions: Decision[], held: boolean): void {
    for (const decision of decisions) {
      this.noted.push({ at, ...snakeCased(decision) })
      if (decision.do === 'deliver' && !decision.cached && !held) {
        this.note(at, this.schedule.delivered(at, decision.key), false)
      }
    }
  }
}

function intervalOf(members: Record<string, unknown>, settings: PollSettings): number {
  if (members.intervalMs !== undefined) return members.intervalMs as number
  return members.kind === 'turn' ? settings.turnIntervalMs : settings.documentIntervalMs
}

describe('the vectors of the polling policy', () => {
  test.each(VECTORS.map((vector) => [`${vector.row}: ${vector.name}`, vector] as const))('%s', (_, vector) => {
    expect(new Runner(vector).run(vector.events)).toEqual(vector.decisions)
  })

  test('there are some of every row', () => {
    expect(new Set(VECTORS.map((vector) => vector.row)).size).toBe(19)
  })
})
