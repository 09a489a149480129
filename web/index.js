// resume.js as an ES module: import { resume } from 'reverb-resume'
import './resume.js'

export const resume = globalThis.resume
