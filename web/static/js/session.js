// Who the page is: whether somebody is signed in, and what tells the server that a request is the page's own.

/** Sent with everything that changes something: a page of another site cannot send it. */
export const OWN_PAGE = { "Rubrika-Page": "1" };

/** Whether this page is one of somebody who is signed in, so that a 401 means that the session has ended. */
export const isSignedIn = () => document.documentElement.dataset.owner !== undefined;
