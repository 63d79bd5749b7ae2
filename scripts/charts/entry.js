export {axisFy, axisX, axisY, barX, barY, dot, gridX, gridY, link, plot, pointer, pointerX, pointerY, rect, ruleX, ruleY, text, tickX, tip} from "@observablehq/plot";
export {linkVertical} from "d3-shape";
export {select} from "d3-selection";
export {zoom, zoomIdentity} from "d3-zoom";
