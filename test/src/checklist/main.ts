/** `make checklist-table`: writes the checklist's table into gateway-nbd/README.md. */
import { writeFileSync } from 'node:fs';
import { README_PATH, readmeTexts } from './readme-table.js';

const { found, wanted } = readmeTexts();
if (found !== wanted) writeFileSync(README_PATH, wanted);
console.log(found === wanted ? 'The table is up to date' : `Written: ${README_PATH}`);
