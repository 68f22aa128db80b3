# Made with R 4.2.2, survival 3.5-3. Golden values of the Cox partial likelihood at given log-risks, with heavy ties: R's survival package.
# Run from the repository's root: Rscript tests/golden/cox_loss.R > tests/golden/cox_loss.csv
# Columns: case, months, event, risk; per row the martingale residual (= minus the gradient of the summed loss) and, on
# every row, the loss = -log partial likelihood / events.
suppressMessages(library(survival))
set.seed(7)
n <- 60
risk <- round(rnorm(n), 6)
months <- sample(1:12, n, replace = TRUE)
event <- rbinom(n, 1, 0.65)
cat("ties,months,event,risk,residual,loss\n")
for (ties in c("efron", "breslow")) {
  fit <- coxph(Surv(months, event) ~ risk, init = 1, ties = ties, control = coxph.control(iter.max = 0))
  loss <- -fit$loglik[2] / sum(event)
  residual <- residuals(fit, type = "martingale")
  for (i in 1:n) {
    cat(sprintf("%s,%d,%d,%.6f,%.15g,%.15g\n", ties, months[i], event[i], risk[i], residual[i], loss))
  }
}
