// Swagger UI on our own document; the validator of its makers is outside, so it is off.
window.SwaggerUIBundle({
  url: "/openapi.json",
  dom_id: "#swagger",
  deepLinking: true,
  validatorUrl: null,
  // Without a key of its own it speaks for whoever is signed in, as the other pages do.
  requestInterceptor: (request) => {
    request.headers["Rubrika-Page"] = "docs";
    return request;
  },
});
