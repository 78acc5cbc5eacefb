/** The author of the sample agent's writes. */
export const AGENT_NAME = 'Scribe'
