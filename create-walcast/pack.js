// Makes template/, which is examples/starter as it is in the repository, without what is made there or is the repository's.
import { execFileSync } from 'node:child_process'
import { cpSync, rmSync } from 'node:fs'

process.chdir(import.meta.dirname)
rmSync('template', { recursive: true, force: true })
const files = execFileSync('git', ['ls-files'], { cwd: '../examples/starter', encoding: 'utf8' }).trim().split('\n')
for (const file of files.filter((file) => file !== 'Procfile')) cpSync(`../examples/starter/${file}`, `template/${file}`)
