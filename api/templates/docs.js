// Swagger UI on our own document; the validator of its makers is outside, so it is off.
window.SwaggerUIBundle({ url: "/openapi.json", dom_id: "#swagger", deepLinking: true, validatorUrl: null });
