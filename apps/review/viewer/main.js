/** Entry: called by Streamlit on every rerun; one app for as long as its element stays. */

import { App } from "./app.js";

const APPS = new WeakMap();

export default function viewer({ data, parentElement, setStateValue, setTriggerValue }) {
  let app = APPS.get(parentElement);
  if (app === undefined) {
    app = new App(parentElement.querySelector(".viewer"));
    APPS.set(parentElement, app);
  }
  app.tell = { state: setStateValue, trigger: setTriggerValue };
  app.receive(data);
  return () => {
    app.close();
    APPS.delete(parentElement);
  };
}
