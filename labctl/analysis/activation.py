"""Activation energies of what follows exp(-Ea/kT) itself, such as a diffusion coefficient.

For conductivities, whose product with T does, see `labctl.analysis.arrhenius`.
"""

from collections.abc import Sequence

from pydantic import BaseModel, ConfigDict

from labctl.analysis.arrhenius import fit_arrhenius


class Activation(BaseModel):
    """A straight line ln(value) against 1/T.

    Attributes:
        ea_ev: activation energy.
        u_ea_ev: its standard uncertainty.
        value_25: the line at 25 degC, in the unit of the values.
        u_value_25: its standard uncertainty.
        warnings: what a reader should know.
    """

    model_config = ConfigDict(frozen=True)

    ea_ev: float
    u_ea_ev: float
    value_25: float
    u_value_25: float
    warnings: tuple[str, ...] = ()


def fit_activation(
    temperature_k: Sequence[float],
    values: Sequence[float],
    u_values: Sequence[float],
    *,
    u_temperature_k: float = 0.0,
) -> Activation:
    """Return the activation energy of positive values of any one unit.

    Args:
        temperature_k: shape (n_points,).
        values: shape (n_points,).
        u_values: their standard uncertainties, shape (n_points,); the weights.
        u_temperature_k: standard uncertainty of the sensor, common to all points.

    Raises:
        AnalysisError: as `fit_arrhenius`.
    """
    relative = [u / value for u, value in zip(u_values, values, strict=True)]
    fit = fit_arrhenius(temperature_k, values, u_ln_r=relative, u_temperature_k=u_temperature_k)
    line = fit.secondary
    return Activation(
        ea_ev=line.ea_ev,
        u_ea_ev=line.u_ea_ev,
        value_25=line.sigma_25_s_per_m,
        u_value_25=line.u_sigma_25_s_per_m,
        warnings=fit.warnings,
    )
