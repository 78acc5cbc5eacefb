import { useMutation, useQueryClient } from '@tanstack/react-query'
import { useEffect, useRef } from 'react'
import { isProblem, type Project } from '../../src/index.js'
import { gatewayKeys, useGateway } from '../../src/react/index.js'
import { useProjectFiles } from '../files/project-files.js'
import { FIRST_PROJECT } from '../shell/address.js'

/** Fills the project with the sample: on request, and automatically if the default project has never been used. */
export function useSample(as: (author: string) => Project, onFilled: (path: string) => void) {
  const { project } = useGateway()
  const { refresh } = useProjectFiles()
  const queryClient = useQueryClient()
  const { mutate, isPending, error } = useMutation({
    mutationFn: async () => {
      const { fillWithSample, FIRST_FILE } = await import('./fill.js')
      const isMine = await fillWithSample(as)
      await refresh()
      await queryClient.invalidateQueries({ queryKey: gatewayKeys.project(project) })
      if (isMine) onFilled(FIRST_FILE)
    }
  })
  const isAsked = useRef(false)
  useEffect(() => {
    if (project.name !== FIRST_PROJECT || isAsked.current) return
    isAsked.current = true
    project.listFiles({ limit: 1 }).catch((error) => {
      if (isProblem(error, 'project_not_found')) mutate()
    })
  }, [project, mutate])
  return { fill: () => mutate(), isFilling: isPending, error }
}
